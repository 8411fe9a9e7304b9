import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Anomaly } from '../detect/anomaly.ts';
import { inSlices, type Work } from '../work.ts';
import { byGpu, CooccurrenceCount } from './cooccurrence.ts';
import { type SharedCause, sharedCauses } from './correlation.ts';
import { DAY_MS, DailyFigures, type FigureRow, HOUR_MS } from './daily-figures.ts';
import { EventJournal, type PatternEvent } from './event-journal.ts';
import { type LemonScore, type LemonSignal, lemonScores } from './lemons.ts';
import type { Pattern } from './pattern.ts';
import { codeOfEvent, isOfApplication, lemonSignalOf } from './pattern-codes.ts';
import {
  cooccurrencePattern,
  eventRhythmPattern,
  lemonPattern,
  roomRhythmPattern,
  sharedCausePattern,
  trendPattern,
} from './pattern-sentences.ts';
import { type PatternShelf, restorePatterns, storePatterns } from './pattern-store.ts';
import { RoomFigures } from './room-figures.ts';
import { eventRhythm, figureRhythm } from './time-of-day.ts';
import { type GroupsOfNode, Topology } from './topology.ts';
import { MAX_TREND_POINTS, timeToThreshold, trendOf } from './trend.ts';
import { TREND_SIGNALS, type TrendSignal } from './trend-signals.ts';

/** Of each kind, strongest first: more than anybody reads. */
const MAX_EACH = 250;
const MAX_TRENDS = 2000;
/** Events between two places to stop at. */
const EVENTS_AT_ONCE = 500;
/** Jobs come and go: what nodes are part of is asked again after so long. */
const TOPOLOGY_MS = 120_000;
/** What is looked back at for shared causes, and how long a found one is told. */
const RECENT_MS = 2 * HOUR_MS;
const CAUSE_KEPT_MS = 7 * DAY_MS;
/** A cause found again a little later, with more nodes, is the same. */
const SAME_CAUSE_MS = 900_000;
/** What looks at months is looked at once an hour. */
const SLOW_EVERY_MS = HOUR_MS;
/** A trend whose newest day is older is told no more. */
const TREND_KEPT_MS = 7 * DAY_MS;
const WATCHED_MS = 90 * DAY_MS;
/** All rhythms of one evaluation together are wrong once in a hundred. Own judgement. */
const RHYTHM_ALPHA = 0.01;
/** Codes whose rhythm is looked at, the most frequent. */
const MAX_RHYTHMS = 100;

/** What is measured in a room, and how much of a swing is worth a sentence (own judgement). */
const ROOM_FIGURES = {
  inlet: { words: 'inlet temperature', unit: '°C', minAmplitude: 1 },
  power: { words: 'power', unit: 'kW', minAmplitude: 5 },
} as const;

export type RoomFigure = keyof typeof ROOM_FIGURES;

/** A node, as a stream's source names it. */
type NodeName = Pick<Source, 'cluster' | 'node'>;

export interface PatternBookOptions {
  readonly clock: Clock;
  /** Nodes known now (`cluster/node`), with what they are part of. Called at most every two minutes. */
  readonly nodes: () => Iterable<readonly [node: string, groups: GroupsOfNode]>;
  /** GPUs of a node (`cluster/node`) and of the fleet. */
  readonly gpusOf: (node: string) => number;
  readonly gpusWatched: () => number;
  readonly signals?: readonly TrendSignal[];
}

/** A GPU's figure that is followed: kept by who offers it, so that no text is built for each. */
export interface FollowedFigure {
  readonly row: FigureRow;
  readonly signal: TrendSignal;
  readonly subject: string;
}

/**
 * Collects what the rest of health sees and finds what repeats, drifts or goes together. Every `note...` is cheap;
 * `evaluate` is where the work is: once a minute, off the path of samples, in slices of ten milliseconds.
 */
export class PatternBook {
  readonly #options: PatternBookOptions;
  readonly #signals: ReadonlyMap<string, TrendSignal>;
  readonly #journal = new EventJournal();
  readonly #figures = new DailyFigures();
  readonly #rooms = new RoomFigures();
  /** Series with a new day, at most one entry each. */
  readonly #ended = new Map<string, FollowedFigure>();
  readonly #trends = new Map<string, { pattern: Pattern; atMs: number }>();
  readonly #causes = new Map<string, SharedCause>();
  #topology: { readonly made: Topology; readonly untilMs: number } | undefined;
  #startedMs: number;
  #slow: readonly Pattern[] = [];
  #lemons: readonly LemonScore[] = [];
  #slowAtMs = Number.NEGATIVE_INFINITY;
  #patterns: readonly Pattern[] = [];
  #evaluating: Promise<void> | undefined;
  readonly #days = new Float64Array(MAX_TREND_POINTS);
  readonly #values = new Float64Array(MAX_TREND_POINTS);

  constructor(options: PatternBookOptions) {
    this.#options = options;
    this.#signals = new Map((options.signals ?? TREND_SIGNALS).map((one) => [one.name, one]));
    this.#startedMs = options.clock.now();
  }

  /** As of the last evaluation. */
  patterns(): readonly Pattern[] {
    return this.#patterns;
  }

  /** Nodes with an incident in 28 days, worst first, as of the last hour. */
  lemons(): readonly LemonScore[] {
    return this.#lemons;
  }

  /** Series that found no place, and events that were one with another. */
  get counts(): {
    readonly events: number;
    readonly coalesced: number;
    readonly figures: number;
    readonly refused: number;
  } {
    return {
      events: this.#journal.size,
      coalesced: this.#journal.coalesced,
      figures: this.#figures.size,
      refused: this.#figures.refused,
    };
  }

  /** A repair is the node's, as is what operators do with it. */
  noteEvent(source: Source, event: FleetEvent): void {
    const code = codeOfEvent(event);
    if (event.type === 'repair') this.noteNode(source, 'repair', event.timestampMs);
    else if (code !== undefined) this.note(source, event.gpuUuid || event.gpu, code, event.timestampMs);
  }

  /** When it begins; tests that an operator injected make no pattern. */
  noteAnomaly(anomaly: Anomaly): void {
    if (anomaly.test) return;
    const what = anomaly.contributions[0];
    if (what === undefined) return;
    this.note(anomaly.source, anomaly.uuid || anomaly.gpu, `anomaly ${what.signal}`, anomaly.startedMs);
  }

  /** A GPU's state machine stepped to `state` (lower case), as degraded or critical. */
  noteState(source: Source, gpu: string, state: string, atMs: number): void {
    if (state === 'critical' || state === 'degraded') this.note(source, gpu, `state ${state}`, atMs);
  }

  /** What was done with a node, or what happened to its jobs. */
  noteNode(source: NodeName, what: LemonSignal, atMs: number): void {
    this.note(source, '', `node ${what}`, atMs);
  }

  /** Anything else with a name, such as `ecc_uncorrected`. `gpu`: its UUID, else its index, empty for the node. */
  note({ cluster, node }: NodeName, gpu: string, code: string, atMs: number): void {
    this.#journal.add({ ms: atMs, cluster, node, gpu, code });
  }

  /** Where a GPU's figure is followed, `subject` as people read it; undefined where there is no such signal. */
  follow(subject: string, uuid: string, signal: string): FollowedFigure | undefined {
    const known = this.#signals.get(signal);
    if (known === undefined) return undefined;
    return { row: this.#figures.row(`${signal}\0${uuid}`), signal: known, subject };
  }

  /** Offers a figure, by the aggregator's own clock; not of a GPU whose load decides it. Allocates nothing. */
  figure(followed: FollowedFigure, value: number, atMs: number): void {
    if (this.#figures.offer(followed.row, value, atMs)) this.#ended.set(followed.row.key, followed);
  }

  /** A room's, rack's or PDU's inlet temperature (°C) or power (kW). Never a GPU's: those follow its load. */
  roomFigure(room: string, what: RoomFigure, value: number, atMs: number): void {
    this.#rooms.offer(`${what}\0${room}`, value, atMs);
  }

  /** Looks for all patterns anew. A call while one is under way is that one. */
  evaluate(): Promise<void> {
    const { clock } = this.#options;
    this.#evaluating ??= inSlices(this.#evaluate(clock.now()), () => clock.monotonic()).finally(() => {
      this.#evaluating = undefined;
    });
    return this.#evaluating;
  }

  /** Stores what changed since the last time. Rejects as the shelf does: everything is then stored the next time. */
  async snapshot(shelf: PatternShelf): Promise<void> {
    await storePatterns(shelf, this.#journal, this.#figures, this.#startedMs);
  }

  /** Before anything is noted. Entries that are damaged or of another version are left out. */
  async restore(shelf: PatternShelf): Promise<void> {
    const now = this.#options.clock.now();
    const started = await restorePatterns(shelf, this.#journal, this.#figures, now);
    if (started !== undefined && started < now) this.#startedMs = started;
  }

  *#evaluate(now: number): Work<void> {
    yield* this.#findCauses(now);
    yield* this.#findTrends(now);
    if (now - this.#slowAtMs >= SLOW_EVERY_MS || now < this.#slowAtMs) {
      this.#slowAtMs = now;
      this.#journal.expire(now);
      yield* this.#findSlow(now);
    }
    for (const [key, { atMs }] of this.#trends) if (now - atMs > TREND_KEPT_MS) this.#trends.delete(key);
    const trends = [...this.#trends.values()]
      .map(({ pattern }) => pattern)
      .sort((a, b) => a.figures.days! - b.figures.days!);
    const causes = [...this.#causes.values()]
      .sort((a, b) => b.startedMs - a.startedMs)
      .map(sharedCausePattern);
    this.#patterns = [...causes.slice(0, MAX_EACH), ...trends.slice(0, MAX_EACH), ...this.#slow];
  }

  /** The days of all series end together: 30 µs each, or 1 ms where a trend is. */
  *#findTrends(now: number): Work<void> {
    const ended = [...this.#ended.values()];
    this.#ended.clear();
    for (const followed of ended) {
      yield;
      this.#findTrend(followed, now);
    }
  }

  #findTrend({ row, signal, subject }: FollowedFigure, now: number): void {
    const count = this.#figures.read(row, this.#days, this.#values);
    const trend = trendOf(this.#days, this.#values, count);
    const time = trend && timeToThreshold(trend, signal.threshold, signal.direction);
    if (trend === undefined || time === undefined) this.#trends.delete(row.key);
    else if (this.#trends.has(row.key) || this.#trends.size < MAX_TRENDS) {
      const pattern = trendPattern(subject, signal, trend, time, this.#days[0]! * DAY_MS);
      this.#trends.set(row.key, { pattern, atMs: now });
    }
  }

  *#findCauses(now: number): Work<void> {
    for (const [id, cause] of this.#causes)
      if (now - cause.startedMs > CAUSE_KEPT_MS) this.#causes.delete(id);
    // A job that fails takes its nodes along, and they often stand together: no fault of what they share.
    const recent = (yield* this.#journal.between(now - RECENT_MS, now + SAME_CAUSE_MS)).filter(
      ({ code }) => !code.startsWith('node ') && !isOfApplication(code),
    );
    yield;
    if (!manyNodes(recent)) return;
    const topology = yield* this.#topologyAt(now);
    for (const cause of yield* sharedCauses(recent, topology, this.#options)) {
      const id = `${cause.level}\0${cause.name}\0${cause.code}`;
      const known = this.#causes.get(id);
      // The same window seen again, perhaps cut by the edge of what is looked at: the fuller one stays.
      const same = known !== undefined && Math.abs(known.startedMs - cause.startedMs) <= SAME_CAUSE_MS;
      if (same && known.hit >= cause.hit) continue;
      this.#causes.delete(id);
      this.#causes.set(
        id,
        same ? { ...cause, startedMs: Math.min(known.startedMs, cause.startedMs) } : cause,
      );
      if (this.#causes.size > MAX_EACH)
        for (const oldest of this.#causes.keys()) if (this.#causes.delete(oldest)) break;
    }
  }

  *#findSlow(now: number): Work<void> {
    const events = yield* this.#journal.between(now - WATCHED_MS, now + 1);
    this.#lemons = yield* lemonScores(events, lemonSignalOf, now);
    const lemons = this.#lemons.map(lemonPattern).filter((one) => one !== undefined);
    yield;
    const pairs = yield* this.#findPairs(events, now);
    const rhythms = [...(yield* eventRhythms(events)), ...(yield* this.#roomRhythms(now))];
    this.#slow = [lemons, pairs, rhythms].flatMap((list) => list.slice(0, MAX_EACH));
  }

  *#findPairs(events: readonly PatternEvent[], now: number): Work<Pattern[]> {
    const sinceMs = Math.max(this.#startedMs, now - WATCHED_MS);
    const count = new CooccurrenceCount();
    // States follow from the other codes.
    for (const unit of yield* byGpu(events.filter(({ code }) => !code.startsWith('state ')))) {
      yield;
      count.add(unit);
    }
    const watched = { unitsWatched: this.#options.gpusWatched(), watchedMs: Math.max(DAY_MS, now - sinceMs) };
    return (yield* count.found(watched)).map((one) => cooccurrencePattern(one, sinceMs));
  }

  *#roomRhythms(now: number): Work<Pattern[]> {
    const rooms = [...this.#rooms.rooms()];
    const found: Pattern[] = [];
    for (const [key, hourly] of rooms) {
      yield;
      const [what, room] = key.split('\0') as [RoomFigure, string];
      const { words, unit, minAmplitude } = ROOM_FIGURES[what];
      const rhythm = figureRhythm(hourly, minAmplitude);
      if (rhythm === undefined || rhythm.pValue * rooms.length > RHYTHM_ALPHA) continue;
      found.push(roomRhythmPattern(room, words, unit, rhythm, now - rhythm.days * DAY_MS));
    }
    return found;
  }

  *#topologyAt(now: number): Work<Topology> {
    if (this.#topology === undefined || now >= this.#topology.untilMs)
      this.#topology = { made: yield* Topology.of(this.#options.nodes()), untilMs: now + TOPOLOGY_MS };
    return this.#topology.made;
  }
}

/** Application Xids follow people, states follow other codes: neither is a room's or a timer's doing. */
function* eventRhythms(events: readonly PatternEvent[]): Work<Pattern[]> {
  const byCode = new Map<string, PatternEvent[]>();
  for (const [index, event] of events.entries()) {
    if (index % EVENTS_AT_ONCE === 0) yield;
    const list = byCode.get(event.code);
    if (list) list.push(event);
    else byCode.set(event.code, [event]);
  }
  const tested = [...byCode]
    .filter(([code]) => !isOfApplication(code) && !/^(state|node) /.test(code))
    .sort(([, a], [, b]) => b.length - a.length)
    .slice(0, MAX_RHYTHMS);
  const found: Pattern[] = [];
  for (const [code, list] of tested) {
    yield;
    const rhythm = yield* eventRhythm(list);
    if (rhythm === undefined || rhythm.pValue * tested.length > RHYTHM_ALPHA) continue;
    found.push(eventRhythmPattern(code, rhythm, list[0]!.ms));
  }
  return found;
}

/** Whether any code was on two subjects: else there is nothing to share, and no topology is made. */
function manyNodes(events: readonly PatternEvent[]): boolean {
  const subjects = new Map<string, Set<string>>();
  for (const { code, node, gpu } of events) {
    const set = subjects.get(code) ?? new Set<string>();
    subjects.set(code, set);
    if (set.add(`${node}/${gpu}`).size >= 2) return true;
  }
  return false;
}
