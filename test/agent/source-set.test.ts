import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import type { Collector, Reading } from '../../agent/collect/collector.ts';
import { SourceSet } from '../../agent/source-set.ts';
import { until } from '../support/wait.ts';

/** A collector that counts, and can be told to fail or to take its time. */
function collector(name: string, holdsDevice = false, log: string[] = []) {
  const dictionary = createDictionary(name, 20, []);
  const behaviour = { failing: '', takesMs: 0, reads: 0 };
  const made: Collector = {
    name,
    intervalMs: 20,
    rank: 50,
    holdsDevice,
    describe: () => `the ${name}`,
    async collect(): Promise<Reading> {
      if (behaviour.failing !== '') throw new Error(behaviour.failing);
      await sleep(behaviour.takesMs);
      behaviour.reads++;
      return {
        dictionary,
        timestampMs: 0,
        values: new Float64Array(0),
        states: new Uint8Array(0),
        events: [],
        rejected: new Map([['blank', 2]]),
      };
    },
    async [Symbol.asyncDispose]() {
      log.push(`${name} disposed after ${behaviour.reads} reads`);
    },
  };
  return { made, behaviour };
}

/** Runs a set over these, until the body is done. */
async function running(
  collectors: readonly Collector[],
  make: () => Promise<readonly Collector[]>,
  body: (set: SourceSet, seen: { readings: string[]; removed: string[] }) => Promise<void>,
  times: { readonly lookAgainMs?: number; readonly letGoMs?: number } = {},
) {
  const seen = { readings: [] as string[], removed: [] as string[] };
  let shifts = 0;
  await using set = new SourceSet(
    {
      clock: systemClock,
      logger: silentLogger,
      phaseOf: () => 0,
      nextShift: () => shifts++,
      onReading: async ({ name }) => void seen.readings.push(name),
      onFailure: () => {},
      onMissed: () => {},
      onRemoved: async (name) => void seen.removed.push(name),
      ...times,
    },
    collectors,
    make,
  );
  const stop = new AbortController();
  const ended = set.run(stop.signal);
  await body(set, seen);
  stop.abort();
  await ended;
  return seen;
}

const come = (what: string, condition: () => boolean) => until(condition, { timeoutMs: 10_000, what });

describe('sources that run', () => {
  // Lost without it: one wedged driver takes the kernel log and the host with it.
  test('one that hangs or fails delays no other, and its state says so', async () => {
    const [slow, broken, good] = [collector('slow'), collector('broken'), collector('good')];
    slow.behaviour.takesMs = 400;
    broken.behaviour.failing = 'no such device';
    await running(
      [slow.made, broken.made, good.made],
      async () => [],
      async (set) => {
        await come('20 reads of the good one', () => good.behaviour.reads >= 20);
        const states = new Map(set.states.map((one) => [one.name, one]));
        expect(states.get('good')).toMatchObject({ state: 'reading', problem: '' });
        expect(states.get('good')!.rejected.get('blank')).toBeGreaterThanOrEqual(38);
        expect(states.get('broken')).toMatchObject({ state: 'failing', problem: 'no such device' });
        expect(states.get('broken')!.failures).toBeGreaterThan(2);
        expect(slow.behaviour.reads).toBeLessThanOrEqual(2);
      },
    );
  });

  // Lost without it: a driver cannot be unloaded while the agent runs.
  test('a pause lets go of what holds a device, and of nothing else; it ends by itself', async () => {
    const log: string[] = [];
    const [nvml, host] = [collector('nvml', true, log), collector('host', false, log)];
    const again = collector('nvml', true);
    const spare = collector('host', false, log);
    await running(
      [nvml.made, host.made],
      async () => [again.made, spare.made],
      async (set) => {
        await come('first reads', () => nvml.behaviour.reads > 0 && host.behaviour.reads > 0);
        await set.pause(300);
        expect(log).toEqual([expect.stringMatching(/^nvml disposed/)]);
        expect(set.states.find(({ name }) => name === 'nvml')?.state).toBe('paused');
        expect(set.pausedUntil).toBeGreaterThan(Date.now());
        const before = host.behaviour.reads;
        await come('the host goes on', () => host.behaviour.reads > before + 3);
        expect(again.behaviour.reads).toBe(0);
        await come('it comes back', () => again.behaviour.reads > 1);
        expect(set.pausedUntil).toBeUndefined();
        expect(spare.behaviour.reads).toBe(0);
      },
    );
  });

  test('a pause can be ended early, and a new configuration lets it stand', async () => {
    let made = 0;
    await running(
      [collector('nvml', true).made],
      async () => {
        made++;
        return [collector('nvml', true).made];
      },
      async (set, seen) => {
        await set.pause(60_000);
        await set.resume();
        expect([made, set.states[0]?.state]).toEqual([1, 'waiting']);
        await set.pause(60_000);
        const next = collector('nvml', true);
        await set.replace(async () => [collector('nvml', true).made, collector('host').made]);
        const before = seen.readings.length;
        await come('the host is read', () => seen.readings.length > before + 2);
        expect(set.pausedUntil).toBeGreaterThan(Date.now());
        expect(set.states.map(({ name, state }) => `${name} ${state}`).sort()).toEqual([
          'host reading',
          'nvml paused',
        ]);
        expect(seen.removed).toEqual([]);
        await set.replace(async () => [next.made]);
        await set.resume();
        await come('it is read again', () => seen.readings.at(-1) === 'nvml');
        expect(seen.removed).toEqual(['host']);
      },
    );
  });

  // Lost without it: a reload drops the read that is under way, or leaves series that nobody gives any more.
  test('others take over after the read that is under way, and what is gone ends', async () => {
    const slow = collector('slow');
    slow.behaviour.takesMs = 15;
    const next = collector('slow');
    const seen = await running(
      [slow.made, collector('old').made],
      async () => [],
      async (set, { readings }) => {
        await come('reads', () => slow.behaviour.reads >= 3);
        await set.replace(async () => [next.made]);
        expect(readings.filter((name) => name === 'slow').length).toBe(slow.behaviour.reads);
        await come('reads of the new one', () => next.behaviour.reads >= 3);
      },
    );
    expect(seen.removed).toEqual(['old']);
  });

  test('a configuration that cannot be used changes nothing', async () => {
    const good = collector('good');
    await running(
      [good.made],
      async () => [],
      async (set) => {
        await come('reads', () => good.behaviour.reads > 0);
        await expect(
          set.replace(async () => {
            throw new Error('bad settings');
          }),
        ).rejects.toThrow('bad settings');
        const before = good.behaviour.reads;
        await come('it goes on', () => good.behaviour.reads > before + 2);
      },
    );
  });

  // Lost without it: an upgrade that takes longer than its pause leaves the GPUs unread until the agent is restarted.
  test('what is not there yet when a pause ends is failing, and looked for until it is', async () => {
    const again = collector('nvml', true);
    let tries = 0;
    await running(
      [collector('nvml', true).made, collector('host').made],
      async () => {
        tries++;
        if (tries === 1) throw new Error('no driver');
        return tries < 4 ? [collector('host').made] : [again.made, collector('host').made];
      },
      async (set) => {
        const nvml = () => set.states.find(({ name }) => name === 'nvml');
        await come('first reads', () => set.states.every(({ state }) => state === 'reading'));
        await set.pause(60_000);
        await set.resume();
        expect(nvml()).toMatchObject({ state: 'failing', problem: expect.stringContaining('no driver') });
        await come('it is there', () => nvml()?.state === 'reading');
        expect(set.states.filter(({ name }) => name === 'nvml')).toHaveLength(1);
      },
      { lookAgainMs: 20 },
    );
  });

  test('a pause that comes while it is looked for holds', async () => {
    let tries = 0;
    await running(
      [collector('nvml', true).made],
      async () => {
        tries++;
        return [];
      },
      async (set) => {
        await come('first reads', () => set.states.every(({ state }) => state === 'reading'));
        await set.pause(60_000);
        await set.resume();
        await come('it is looked for', () => tries > 2);
        await set.pause(60_000);
        const before = tries;
        await sleep(60);
        expect([tries, set.states[0]?.state]).toEqual([before, 'paused']);
      },
      { lookAgainMs: 10 },
    );
  });

  // Lost without it: the last values of a GPU that nobody reads any more stand on /metrics for ever.
  test('what a pause took away and a new configuration does not bring back ends', async () => {
    const seen = await running(
      [collector('nvml', true).made],
      async () => [],
      async (set) => {
        await come('first reads', () => set.states.every(({ state }) => state === 'reading'));
        await set.pause(60_000);
        await set.replace(async () => [collector('host').made]);
      },
    );
    expect(seen.removed).toEqual(['nvml']);
  });

  // Lost without it: one source that cannot be closed and a reload leave a node on which nothing is collected.
  test('a source that cannot be let go, or never is, holds up no other', async () => {
    const stubborn = (name: string, dispose: () => Promise<void>): Collector => ({
      ...collector(name).made,
      [Symbol.asyncDispose]: dispose,
    });
    const log: string[] = [];
    const [last, next] = [collector('last', false, log), collector('next')];
    const fails = stubborn('fails', async () => {
      throw new Error('EIO');
    });
    const hangs = stubborn('hangs', () => new Promise(() => {}));
    await running(
      [fails, hangs, last.made],
      async () => [],
      async (set) => {
        await come('first reads', () => set.states.every(({ state }) => state === 'reading'));
        await set.replace(async () => [next.made]);
        expect(log).toHaveLength(1);
        await come('reads of the next', () => next.behaviour.reads > 2);
      },
      { letGoMs: 20 },
    );
  });

  // Lost without it: a reload while the agent starts makes each source twice, for good.
  test('others that come before the start take the place of the first', async () => {
    const log: string[] = [];
    const next = collector('nvml');
    const set = new SourceSet(
      {
        clock: systemClock,
        logger: silentLogger,
        phaseOf: () => 0,
        nextShift: () => 0,
        onReading: async () => {},
        onFailure: () => {},
        onMissed: () => {},
        onRemoved: async () => {},
      },
      [collector('nvml', false, log).made],
      async () => [],
    );
    await set.replace(async () => [next.made]);
    expect(log).toEqual(['nvml disposed after 0 reads']);
    const stop = new AbortController();
    const ended = set.run(stop.signal);
    expect(set.states).toHaveLength(1);
    stop.abort();
    await ended;
    await set[Symbol.asyncDispose]();
  });
});
