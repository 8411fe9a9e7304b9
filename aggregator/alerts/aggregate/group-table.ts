import type { GroupBy } from '../rules/rules.ts';
import type { Subject } from '../subject.ts';
import type { NodeTable } from './node-table.ts';

/** Which groups of each kind a node is in, such as the names of its racks. */
export type GroupsOf = (
  cluster: string,
  node: string,
) => Readonly<Partial<Record<GroupBy, readonly string[]>>>;

const NONE: readonly number[] = [];

/**
 * The groups of one kind and the nodes in them. Racks, pools and the like are groups of one cluster: two clusters may
 * use the same names. Only `fleet` is everything.
 */
export class GroupTable {
  readonly by: GroupBy;
  readonly #limit: number;
  readonly #byKey = new Map<string, number>();
  readonly #subjects: Subject[] = [];
  #ofNode: (readonly number[] | undefined)[] = [];
  /** Rises when a node came into another group. */
  version = 0;

  constructor(by: GroupBy, limit: number) {
    this.by = by;
    this.#limit = limit;
  }

  get size(): number {
    return this.#subjects.length;
  }

  subjectOf(group: number): Subject {
    return this.#subjects[group]!;
  }

  has(cluster: string, node: string, key: string): boolean {
    return this.#byKey.has(`${cluster}\0${node}\0${key}`);
  }

  /** Groups of a node; none before it was placed. */
  ofNode(nodeRow: number): readonly number[] {
    return this.#ofNode[nodeRow] ?? NONE;
  }

  /** All nodes anew: groups without nodes go, nodes may have come into others. `refused` is told of each lost place. */
  rebuild(nodes: NodeTable, groupsOf: GroupsOf, refused: () => void): void {
    this.#byKey.clear();
    this.#subjects.length = 0;
    this.#ofNode = [];
    for (const row of nodes.rows()) this.place(row, nodes, groupsOf, refused);
    this.version++;
  }

  /** One node, new or not. */
  place(nodeRow: number, nodes: NodeTable, groupsOf: GroupsOf, refused: () => void): void {
    const cluster = nodes.clusterOf(nodeRow);
    const node = nodes.nodeOf(nodeRow);
    const groups: number[] = [];
    for (const subject of this.#subjectsOf(cluster, node, groupsOf)) {
      const key = `${subject.cluster}\0${subject.node}\0${subject.key}`;
      let group = this.#byKey.get(key);
      if (group === undefined) {
        if (this.#subjects.length >= this.#limit) {
          refused();
          continue;
        }
        group = this.#subjects.push(subject) - 1;
        this.#byKey.set(key, group);
      }
      groups.push(group);
    }
    this.#ofNode[nodeRow] = groups;
    this.version++;
  }

  #subjectsOf(cluster: string, node: string, groupsOf: GroupsOf): Subject[] {
    const empty = { gpu: '', gpuUuid: '', gpuModel: '', key: '', unit: '', labels: {} };
    switch (this.by) {
      case 'fleet':
        return [{ ...empty, cluster: '', node: '' }];
      case 'cluster':
        return [{ ...empty, cluster, node: '' }];
      case 'node':
        return [{ ...empty, cluster, node }];
      default: {
        const names = new Set(groupsOf(cluster, node)[this.by] ?? []);
        return [...names]
          .filter((name) => name !== '')
          .map((name) => ({
            ...empty,
            cluster,
            node: '',
            key: `${this.by}=${name}`,
            labels: { [this.by]: name },
          }));
      }
    }
  }
}
