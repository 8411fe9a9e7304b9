import { expect } from 'vitest';
import type { AmdSource } from '#shared/catalogue/amd.ts';
import { AMD_CYCLES } from '#shared/catalogue/amd.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { GpuTable } from '../../../../agent/collect/amd/gpu-table.ts';
import { type ListedGpu, ListedGpus } from '../../../../agent/collect/amd/listed-gpus.ts';
import type { Reading } from '../../../../agent/collect/collector.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';

/** What a collector makes of one list of GPUs, without the tool that printed it. */
export function toldBy(source: AmdSource, listed: readonly ListedGpu[]): Reading {
  const clock = { now: () => 0, monotonic: () => 0 };
  const table = new GpuTable({ source, intervalMs: 1000, clock });
  const gpus = new ListedGpus(source, source, AMD_CYCLES[source]);
  table.begin();
  table.plan(gpus.observe(listed, 0).gpus);
  gpus.fill(table, listed, 0);
  return table.finish([]);
}

/** The values of a reading that are not always 1 or 0, once each. */
export function valuesOf({ dictionary, states, values }: Reading): Set<number> {
  const found = new Set<number>();
  for (const [slot, { name }] of dictionary.series.entries()) {
    const isOwn = name === 'up' || name.startsWith('scrape_') || name === 'gpu_up' || name === 'gpu_info';
    if (states[slot] === SlotState.Present && !isOwn) found.add(values[slot]!);
  }
  return found;
}

/**
 * Reads every damaged form of a capture. A value that the capture does not have must come from a number that the
 * damage made: one that the whole capture does not have. An edit touches one token, or joins two.
 */
export function expectNothingInvented(
  capture: Buffer,
  seed: number,
  read: (bytes: Buffer) => Reading | undefined,
): void {
  const whole = valuesOf(read(capture)!);
  const numbers = new Set(capture.toString('latin1').match(/\d+(\.\d+)?/g));
  let refused = 0;
  for (const { what, bytes } of damagedInputs(capture, seed)) {
    const reading = read(bytes);
    if (!reading) {
      refused++;
      continue;
    }
    const foreign = [...valuesOf(reading)].filter((value) => !whole.has(value));
    const made = [...new Set(bytes.toString('latin1').match(/\d+(\.\d+)?/g))].filter((n) => !numbers.has(n));
    expect(foreign.length, `${what}: ${foreign.join()}, made of ${made.join()}`).toBeLessThanOrEqual(
      Math.max(made.length, swaps(what) ? 2 : 0, unitMayChange(what) ? 1 : 0),
    );
    for (const [slot, state] of reading.states.entries())
      if (state === SlotState.Present) expect(Number.isNaN(reading.values[slot])).toBe(false);
  }
  // Cut JSON is no JSON.
  expect(refused).toBeGreaterThan(0);
}

const swaps = (what: string): boolean =>
  what.endsWith('swapped') || what.includes('deleted') || what.includes('doubled');
const unitMayChange = (what: string): boolean => what.includes('flipped') || what.includes('replaced');
