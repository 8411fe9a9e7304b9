import { setTimeout as wait } from 'node:timers/promises';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SLOT_STATE_NAMES, type SlotState } from '#shared/model/slot-state.ts';
import type { Collector, Reading } from '../../../../../agent/collect/collector.ts';
import { GpuIdentities } from '../../../../../agent/collect/gpu-identity.ts';
import {
  createNvmlCollectors,
  type NvmlOptions,
} from '../../../../../agent/collect/nvidia/nvml/collector.ts';
import type { Facts } from '../../../../../agent/collect/source-kind.ts';

export function memoryFacts(): Facts {
  const facts = new Map<string, string>();
  return { get: (name) => facts.get(name), set: (name, value) => void facts.set(name, value) };
}

/** What a reading says, by name and the labels that tell series apart; a state's name where there is no value. */
export function said(reading: Reading): Map<string, number | string> {
  const told = new Map<string, number | string>();
  for (const [slot, { name, labels }] of reading.dictionary.series.entries()) {
    const telling = labels.filter(([label]) => label !== 'uuid' && label !== 'model');
    const key = `${name}{${telling.map(([label, value]) => `${label}=${value}`).join(',')}}`;
    const state = reading.states[slot] as SlotState;
    told.set(key, state === 0 ? reading.values[slot]! : SLOT_STATE_NAMES.get(state)!);
  }
  return told;
}

export interface NvmlUnderTest extends AsyncDisposable {
  readonly fast: Collector;
  readonly slow: Collector;
  readonly facts: Facts;
  /** All events so far. */
  readonly events: FleetEvent[];
  read(collector?: Collector, deadlineMs?: number): Promise<Map<string, number | string>>;
  /** Reads until it says so, as the scheduler would; at most 20 s. */
  readUntil(done: (told: Map<string, number | string>) => boolean): Promise<Map<string, number | string>>;
}

export function nvmlUnderTest(
  options: Pick<NvmlOptions, 'library'> & Partial<NvmlOptions> & { readonly facts?: Facts },
): NvmlUnderTest {
  const facts = options.facts ?? memoryFacts();
  const [fast, slow] = createNvmlCollectors({
    intervalMs: 100,
    slowIntervalMs: 1000,
    timeoutMs: 10_000,
    keepOpen: true,
    recheckMs: 100,
    identities: new GpuIdentities(facts, systemClock),
    proc: '/proc',
    clock: systemClock,
    logger: silentLogger,
    ...options,
  }) as [Collector, Collector];
  const events: FleetEvent[] = [];
  const read: NvmlUnderTest['read'] = async (collector = fast, deadlineMs = 20_000) => {
    const reading = await collector.collect(AbortSignal.timeout(deadlineMs));
    events.push(...reading.events);
    return said(reading);
  };
  return {
    fast,
    slow,
    facts,
    events,
    read,
    async readUntil(done) {
      const giveUp = performance.now() + 20_000;
      for (;;) {
        const told = await read(fast, 200);
        if (done(told)) return told;
        if (performance.now() > giveUp) throw new Error(`still ${JSON.stringify([...told])}`);
        await wait(20);
      }
    },
    async [Symbol.asyncDispose]() {
      await fast[Symbol.asyncDispose]();
      await slow[Symbol.asyncDispose]();
    },
  };
}
