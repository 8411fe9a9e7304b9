import type { Work } from '../work.ts';
import { logHypergeometricTail } from './distributions.ts';
import { nodeOf, type PatternEvent, subjectOf } from './event-journal.ts';
import { type Group, LEVELS, type Level, type Topology } from './topology.ts';

/** A power dip hits within seconds; heat and a job's end take minutes. Own judgement. */
const WINDOWS_MS = [60_000, 900_000] as const;
/** Chance of a false claim for one look at one window, over all groups together. Own judgement. */
const ALPHA = 1e-4;
/** Two nodes of a group are a coincidence that nobody acts on. Own judgement. */
const MIN_NODES = 3;
/** A node is at fault rather than its GPUs where so many of them had it: three, or all of two. Own judgement. */
const MIN_GPUS = 3;
/** Nodes of the fleet that make it the fleet: a rollout or a clock, nothing shared by a few. Own judgement. */
const FLEET_SHARE = 0.5;
const FLEET_NODES = 10;
/** Other groups that fit nearly as well are named too: a likelihood ratio of e^2. Own judgement. */
const NEARLY = 2;
/** Events between two places to stop at. */
const AT_ONCE = 500;
/** Causes that one window may have. */
const MAX_CAUSES = 4;

export interface SharedCause {
  readonly level: Level | 'node' | 'fleet';
  readonly name: string;
  /** What happened to all of them. */
  readonly code: string;
  /** `cluster/node` of those hit, sorted; of one node its GPUs. */
  readonly subjects: readonly string[];
  readonly hit: number;
  readonly of: number;
  readonly startedMs: number;
  /** From the first to the last. */
  readonly spanMs: number;
  /** Chance of as many or more of any group, corrected for the groups tested; 0 below the range of a float64. */
  readonly pValue: number;
  /** Groups that fit nearly as well, as `pdu p12`. */
  readonly alternatives: readonly string[];
}

export interface CorrelationOptions {
  /** GPUs of a node, for "all of its GPUs". */
  readonly gpusOf: (node: string) => number;
}

/**
 * What the things that happened at about the same time have in common. Each code is looked at by itself, in windows
 * that begin with its first event: for each group, the chance that so many of the window's nodes are in it
 * (hypergeometric, times the groups tested); of the groups that pass, the one that best parts hit from spared
 * (likelihood ratio of Kulldorff's scan statistic), so the smallest that explains. A node hit by several groups' causes
 * is explained once. Events in order of time; nodes outside of the topology do not count.
 */
export function* sharedCauses(
  events: readonly PatternEvent[],
  topology: Topology,
  { gpusOf }: CorrelationOptions,
): Work<SharedCause[]> {
  const byCode = new Map<string, PatternEvent[]>();
  let done = 0;
  for (const event of events) {
    if (++done % AT_ONCE === 0) yield;
    if (!topology.has(nodeOf(event))) continue;
    const list = byCode.get(event.code);
    if (list) list.push(event);
    else byCode.set(event.code, [event]);
  }
  const found: SharedCause[] = [];
  for (const list of byCode.values()) found.push(...(yield* causesOfCode(list, topology, gpusOf)));
  return found;
}

/** The short window first; what it explains is not looked at again in the long one. */
function* causesOfCode(
  events: readonly PatternEvent[],
  topology: Topology,
  gpusOf: (node: string) => number,
): Work<SharedCause[]> {
  const found: SharedCause[] = [];
  let left = events;
  for (const windowMs of WINDOWS_MS) {
    const explained = new Set<PatternEvent>();
    for (let from = 0; from < left.length; ) {
      let to = from + 1;
      while (to < left.length && left[to]!.ms - left[from]!.ms <= windowMs) to++;
      const slice = left.slice(from, to);
      yield;
      for (const cause of yield* causesOfWindow(slice, topology, gpusOf)) {
        yield;
        found.push(cause);
        const hit = new Set(cause.subjects);
        for (const event of slice)
          if (hit.has(nodeOf(event)) || hit.has(subjectOf(event))) explained.add(event);
      }
      from = to;
    }
    left = left.filter((event) => !explained.has(event));
  }
  return found;
}

function* causesOfWindow(
  slice: readonly PatternEvent[],
  topology: Topology,
  gpusOf: (node: string) => number,
): Work<SharedCause[]> {
  const hit = new Map<string, PatternEvent[]>();
  for (const event of slice) {
    const node = nodeOf(event);
    const list = hit.get(node);
    if (list) list.push(event);
    else hit.set(node, [event]);
  }
  if (hit.size >= FLEET_NODES && hit.size >= topology.nodes * FLEET_SHARE)
    return [causeOf('fleet', 'fleet', [...hit.keys()], topology.nodes, slice, 0, [])];
  const found: SharedCause[] = [];
  while (found.length < MAX_CAUSES && hit.size >= MIN_NODES) {
    yield;
    const best = yield* bestGroup(new Set(hit.keys()), topology);
    if (best === undefined) break;
    const nodes = [...hit.keys()].filter((node) => best.group.nodes.has(node));
    const theirs = nodes.flatMap((node) => hit.get(node)!);
    const { level, name } = best.group;
    found.push(causeOf(level, name, nodes, best.group.nodes.size, theirs, best.pValue, best.alternatives));
    for (const node of nodes) hit.delete(node);
  }
  return [...found, ...(yield* wholeNodes(hit, topology.nodes, gpusOf))];
}

interface Candidate {
  readonly group: Group;
  readonly pValue: number;
  readonly likelihood: number;
}

function* bestGroup(
  hit: ReadonlySet<string>,
  topology: Topology,
): Work<(Candidate & { alternatives: string[] }) | undefined> {
  const counts = new Map<Group, number>();
  let done = 0;
  for (const node of hit) {
    if (++done % AT_ONCE === 0) yield;
    for (const group of topology.groupsOf(node)) counts.set(group, (counts.get(group) ?? 0) + 1);
  }
  const tests = topology.groups.length * WINDOWS_MS.length;
  const passed: Candidate[] = [];
  for (const [group, count] of counts) {
    if (count < MIN_NODES) continue;
    if (++done % AT_ONCE === 0) yield;
    const size = group.nodes.size;
    const pValue = Math.exp(
      Math.min(0, logHypergeometricTail(count, topology.nodes, size, hit.size) + Math.log(tests)),
    );
    if (pValue <= ALPHA)
      passed.push({ group, pValue, likelihood: likelihoodRatio(count, size, hit.size, topology.nodes) });
  }
  passed.sort((a, b) => b.likelihood - a.likelihood || rank(a) - rank(b));
  const best = passed[0];
  if (best === undefined) return undefined;
  const alternatives = passed
    .slice(1)
    .filter((one) => best.likelihood - one.likelihood <= NEARLY)
    .slice(0, 3)
    .map(({ group }) => `${group.level} ${group.name}`);
  return { ...best, alternatives };
}

const rank = ({ group }: Candidate): number => LEVELS.indexOf(group.level);

/** ln of the likelihood ratio of "one rate inside, one outside" against "one rate" (Kulldorff 1997, Bernoulli). */
function likelihoodRatio(hitInside: number, inside: number, hit: number, total: number): number {
  return (
    entropyTerm(hitInside, inside) + entropyTerm(hit - hitInside, total - inside) - entropyTerm(hit, total)
  );
}

function entropyTerm(hit: number, of: number): number {
  const part = (x: number): number => (x <= 0 ? 0 : x * Math.log(x / of));
  return part(hit) + part(of - hit);
}

/** Nodes of which nearly all GPUs had it: the chance that other nodes' GPUs were spared so, over all nodes. */
function* wholeNodes(
  hit: ReadonlyMap<string, readonly PatternEvent[]>,
  nodes: number,
  gpusOf: (node: string) => number,
): Work<SharedCause[]> {
  let hitGpus = 0;
  let done = 0;
  const gpusHit = new Map<string, string[]>();
  for (const [node, events] of hit) {
    if (++done % AT_ONCE === 0) yield;
    const gpus = [...new Set(events.filter((one) => one.gpu !== '').map(subjectOf))];
    gpusHit.set(node, gpus);
    hitGpus += gpus.length;
  }
  const found: SharedCause[] = [];
  for (const [node, gpus] of gpusHit) {
    if (++done % AT_ONCE === 0) yield;
    const of = Math.max(gpus.length, gpusOf(node));
    if (gpus.length < MIN_GPUS && !(of === 2 && gpus.length === 2)) continue;
    const total = Math.max(of, nodes * of);
    const log = logHypergeometricTail(gpus.length, total, of, Math.min(total, hitGpus)) + Math.log(nodes);
    const pValue = Math.exp(Math.min(0, log));
    if (pValue > ALPHA && nodes > 1) continue;
    found.push(causeOf('node', node, gpus, of, hit.get(node)!, pValue, []));
  }
  return found;
}

function causeOf(
  level: SharedCause['level'],
  name: string,
  subjects: readonly string[],
  of: number,
  events: readonly PatternEvent[],
  pValue: number,
  alternatives: readonly string[],
): SharedCause {
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  for (const { ms } of events) {
    first = Math.min(first, ms);
    last = Math.max(last, ms);
  }
  return {
    level,
    name,
    code: events[0]!.code,
    subjects: [...subjects].sort(),
    hit: subjects.length,
    of,
    startedMs: first,
    spanMs: last - first,
    pValue,
    alternatives,
  };
}
