import type { Fault } from './fault.ts';
import { type Item, layOutIn } from './lane-layout.ts';

/**
 * A store that is set back is noticed by its last canary where that is older than 60 s; the copy is older than
 * that by a margin for the canary's own interval and the restart.
 */
const OLDEST_CANARY_S = 60;
const RESTORE_MARGIN_S = 15;
/** At most so far do clocks go wrong, either way. */
const MAX_CLOCK_OFFSET_S = 180;
/** Longer than a small ring reaches: it must trim. */
const LONG_CUT_S = { short: 85, long: 160 };
/** About 50 s of samples, and 110 s in a longer run: more than the 30 to 40 s until they are durable. */
const SMALL_RING_BYTES = { short: 32 * 1024, long: 72 * 1024 };
/** From here on there is time for the longer cut. */
const LONG_RUN_S = 300;
/**
 * What a full disk did not take lives in the agent's memory until the store has it for good (30 s). An agent that
 * is killed before that has lost both the samples and the knowledge of them: no design can do without a disk.
 */
const REST_AFTER_FULL_S = 45;

const times = (lengthS: number, everyS: number): number => Math.max(1, Math.round(lengthS / everyS));
const repeat = (count: number, make: () => Item): Item[] => Array.from({ length: count }, make);
const between = (random: () => number, from: number, to: number): number =>
  Math.round((from + random() * (to - from)) * 10) / 10;

/** A stop of seconds to half a minute, shorter where the whole run is. */
function stopS(lengthS: number, random: () => number): number {
  return between(random, 2, Math.min(30, lengthS / 15));
}

export function serverItems(lengthS: number, everyS: number, random: () => number): Item[] {
  return [
    ...repeat(times(lengthS, everyS), () => ({
      fault: { kind: 'kill', forS: between(random, 0.2, 6) },
      restS: 6,
    })),
    ...repeat(times(lengthS, 2 * everyS), () => ({
      fault: { kind: 'stop', forS: stopS(lengthS, random) },
      restS: 4,
    })),
  ];
}

export function agentItems(lengthS: number, random: () => number): Item[] {
  return [
    ...repeat(times(lengthS, 900), () => ({
      fault: { kind: 'kill', forS: between(random, 0.1, 5) },
      restS: 5,
    })),
    ...repeat(times(lengthS, 300), () => ({
      fault: { kind: 'partition', forS: between(random, 3, lengthS / 12 > 30 ? 60 : 10) },
      restS: 4,
    })),
    ...repeat(times(lengthS, 400), () => ({
      fault: { kind: 'stop', forS: stopS(lengthS, random) },
      restS: 4,
    })),
  ];
}

export function clockItems(lengthS: number): Item[] {
  return repeat(2 * times(lengthS, 400), () => ({ fault: { kind: 'clock-step', forS: 0 }, restS: 6 }));
}

/** Forwards and back in turn, so that time comes again, and never further from the true time than the limit. */
export function withSteps(faults: readonly Fault[], lengthS: number, random: () => number): Fault[] {
  const largest = Math.min(MAX_CLOCK_OFFSET_S, lengthS / 4);
  let offsetS = 0;
  let ahead = random() < 0.5;
  return faults.map((fault) => {
    if (fault.kind !== 'clock-step') return fault;
    ahead = !ahead;
    const target = between(random, 2, largest) * (ahead ? 1 : -1);
    const stepS = Math.round((target - offsetS) * 10) / 10;
    offsetS = target;
    return { ...fault, stepS };
  });
}

export function wornItems(lengthS: number, random: () => number): Item[] {
  return [
    ...repeat(times(lengthS, 900), () => ({
      fault: { kind: 'reimage', forS: between(random, 4, 10) },
      restS: 12,
    })),
    ...repeat(times(lengthS, 900), () => ({
      fault: { kind: 'corrupt', forS: between(random, 4, 10), part: random() },
      restS: 12,
    })),
  ];
}

export function smallRingBytes(lengthS: number): number {
  return lengthS < LONG_RUN_S ? SMALL_RING_BYTES.short : SMALL_RING_BYTES.long;
}

export function longCuts(lengthS: number, random: () => number): Item[] {
  const cutS = lengthS < LONG_RUN_S ? LONG_CUT_S.short : LONG_CUT_S.long;
  return repeat(times(lengthS, 900), () => ({
    fault: { kind: 'partition', forS: between(random, cutS, lengthS < LONG_RUN_S ? cutS : cutS + 30) },
    restS: 8,
  }));
}

export function fullItems(lengthS: number, clones: string[], random: () => number): Item[] {
  return [
    ...repeat(times(lengthS, 600), () => ({
      fault: { kind: 'fill-disk', forS: between(random, 10, lengthS > 300 ? 30 : 14) },
      restS: REST_AFTER_FULL_S,
    })),
    ...repeat(times(lengthS, 1_200), () => {
      const clone = `oracle-clone-${clones.length}`;
      clones.push(clone);
      return { fault: { kind: 'clone-disk', forS: 0.5, clone }, restS: 5 };
    }),
  ];
}

/** Copies that are restored later, and in the gaps around them kills and stops. */
export function storeLane(lengthS: number, fromS: number, toS: number, random: () => number): Fault[] {
  const minAgeS = OLDEST_CANARY_S + RESTORE_MARGIN_S;
  const faults: Fault[] = [];
  const gaps: [number, number][] = [];
  const sections = times(lengthS, 1_800);
  const sectionS = (toS - fromS) / sections;
  for (let section = 0; section < sections; section++) {
    const begin = fromS + section * sectionS;
    const roomS = sectionS - minAgeS - 20;
    const ageS = Math.round(minAgeS + random() * Math.min(60, Math.max(0, roomS)));
    const copyS = Math.round(begin + random() * Math.max(0, sectionS - ageS - 20));
    faults.push({ atS: copyS, kind: 'copy-store', target: 'store', forS: 0 });
    faults.push({ atS: copyS + ageS, kind: 'restore-store', target: 'store', forS: between(random, 0.5, 3) });
    gaps.push([begin, copyS - 5], [copyS + 5, copyS + ageS - 12], [copyS + ageS + 15, begin + sectionS]);
  }
  const items = [
    ...repeat(times(lengthS, 900), () => ({
      fault: { kind: 'kill' as const, forS: between(random, 0.5, 8) },
      restS: 8,
    })),
    ...repeat(times(lengthS, 300), () => ({
      fault: { kind: 'stop' as const, forS: stopS(lengthS, random) },
      restS: 4,
    })),
  ];
  faults.push(...layOutIn(gaps, items, random).map((one) => ({ ...one, target: 'store' })));
  return faults;
}

/** An aggregator that is killed while the store hangs holds samples that nobody else can write. */
export function aggregatorLane(
  lengthS: number,
  fromS: number,
  toS: number,
  stops: readonly Fault[],
  random: () => number,
): Fault[] {
  const paired: Fault[] = [];
  for (const { atS, forS } of stops) {
    const killS = Math.round((atS + forS * 0.6) * 10) / 10;
    if (killS < (paired.at(-1)?.atS ?? 0) + 30 || killS > toS - 20) continue;
    paired.push({ atS: killS, kind: 'kill', target: 'aggregator', forS: between(random, 0.2, 6) });
  }
  const edges = [...paired, { atS: toS, forS: 0 }];
  const gaps = edges.map(({ atS }, index): [number, number] => {
    const before = paired[index - 1];
    return [before ? before.atS + before.forS + 6 : fromS, atS - 2];
  });
  const items = serverItems(lengthS, 200, random);
  return [...paired, ...layOutIn(gaps, items, random).map((placed) => ({ ...placed, target: 'aggregator' }))];
}
