import type { Work } from '../work.ts';

/** Where nodes share something, smallest first: where two explain equally well, the first is named. */
export const LEVELS = ['switch', 'pdu', 'rack', 'cooling_zone', 'row', 'job', 'pool', 'datacenter'] as const;

export type Level = (typeof LEVELS)[number];

/** What one node is part of; several switches are usual, two PDUs too. */
export type GroupsOfNode = Readonly<Partial<Record<Level, readonly string[]>>>;

export interface Group {
  readonly level: Level;
  readonly name: string;
  /** `cluster/node`. */
  readonly nodes: ReadonlySet<string>;
}

/** Groups of one node on one level at most: a rail-optimised node has 8 NICs on 8 switches. */
const MAX_EACH = 16;
/** Groups in all: 200,000 nodes in racks of four, twice over. */
const MAX_GROUPS = 100_000;
/** Nodes, or groups, between two places to stop at. */
const AT_ONCE = 200;

/** Nodes and their groups at one moment. Groups of less than three nodes explain nothing and are left out. */
export class Topology {
  readonly nodes: number;
  readonly groups: readonly Group[];
  readonly #groupsOf: ReadonlyMap<string, readonly Group[]>;
  readonly #known: ReadonlySet<string>;

  private constructor(
    known: ReadonlySet<string>,
    groups: readonly Group[],
    groupsOf: ReadonlyMap<string, readonly Group[]>,
  ) {
    this.#known = known;
    this.nodes = known.size;
    this.groups = groups;
    this.#groupsOf = groupsOf;
  }

  /** Nodes may come and go while it is made: it has each that was there all the time. */
  static *of(nodes: Iterable<readonly [node: string, groups: GroupsOfNode]>): Work<Topology> {
    const byName = new Map<string, { level: Level; name: string; nodes: Set<string> }>();
    const known = new Set<string>();
    for (const [node, groups] of nodes) {
      known.add(node);
      if (known.size % AT_ONCE === 0) yield;
      for (const level of LEVELS) {
        for (const name of (groups[level] ?? []).slice(0, MAX_EACH)) {
          const key = `${level}\0${name}`;
          let group = byName.get(key);
          if (group === undefined) {
            if (byName.size >= MAX_GROUPS) continue;
            group = { level, name, nodes: new Set() };
            byName.set(key, group);
          }
          group.nodes.add(node);
        }
      }
    }
    // A group that is everything tells nothing apart.
    const kept: Group[] = [...byName.values()].filter(
      (one) => one.nodes.size >= 3 && one.nodes.size < known.size,
    );
    const groupsOf = new Map<string, Group[]>();
    for (const [index, group] of kept.entries()) {
      if (index % AT_ONCE === 0) yield;
      for (const node of group.nodes) {
        const list = groupsOf.get(node);
        if (list) list.push(group);
        else groupsOf.set(node, [group]);
      }
    }
    return new Topology(known, kept, groupsOf);
  }

  has(node: string): boolean {
    return this.#known.has(node);
  }

  groupsOf(node: string): readonly Group[] {
    return this.#groupsOf.get(node) ?? [];
  }
}
