import { LEAST_PEERS } from './peer-column.ts';
import { LEVEL, LEVELS, type PeerTable } from './peer-table.ts';

/** Of a group's known GPUs so many must have answered: the median of a remnant is nobody's. */
const PRESENT_SHARE = 0.6;

/** Which GPUs are present, in which groups, and which level each is compared at. Rebuilt each round; arrays are reused. */
export class LevelMembers {
  /** Members by group, one group after another, for each level. */
  readonly #members: Int32Array[];
  /** Where each group begins in them; one more than groups. */
  readonly #starts: Int32Array[] = Array.from({ length: LEVELS }, () => new Int32Array(1));
  /** By GPU; LEVELS where it has no peers. */
  readonly level: Uint8Array;
  readonly #table: PeerTable;

  constructor(table: PeerTable) {
    this.#table = table;
    this.#members = Array.from({ length: LEVELS }, () => new Int32Array(table.capacity));
    this.level = new Uint8Array(table.capacity);
  }

  /** Those heard from `sinceMs` on. */
  rebuild(sinceMs: number): void {
    for (let level = 0; level < LEVELS; level++) this.#rebuildLevel(level, sinceMs);
    for (let gpu = 0; gpu < this.#table.size; gpu++) this.level[gpu] = this.#levelOf(gpu, sinceMs);
  }

  groups(level: number): number {
    return this.#table.groups[level]!.limit;
  }

  /** Members of a group that are present; a view that lasts until the next `rebuild`. */
  of(level: number, group: number): Int32Array {
    const starts = this.#starts[level]!;
    return this.#members[level]!.subarray(starts[group]!, starts[group + 1]!);
  }

  /** Whether a group has enough present members to be compared with. */
  enough(level: number, group: number): boolean {
    if (group < 0) return false;
    const starts = this.#starts[level]!;
    const present = starts[group + 1]! - starts[group]!;
    return present >= LEAST_PEERS && present >= PRESENT_SHARE * this.#table.groups[level]!.members[group]!;
  }

  #levelOf(gpu: number, sinceMs: number): number {
    const table = this.#table;
    if (!this.#present(gpu, sinceMs)) return LEVELS;
    for (let level: number = LEVEL.job; level < LEVELS; level++)
      if (this.enough(level, table.group(gpu, level))) return level;
    return LEVELS;
  }

  #present(gpu: number, sinceMs: number): boolean {
    return this.#table.uuids[gpu] !== undefined && this.#table.seenMs[gpu]! >= sinceMs;
  }

  /** A counting sort by group. */
  #rebuildLevel(level: number, sinceMs: number): void {
    const table = this.#table;
    const groups = table.groups[level]!.limit;
    if (this.#starts[level]!.length <= groups) this.#starts[level] = new Int32Array(2 * groups + 2);
    const starts = this.#starts[level]!.fill(0);
    let count = 0;
    for (let gpu = 0; gpu < table.size; gpu++) {
      const group = table.group(gpu, level);
      if (group < 0 || !this.#present(gpu, sinceMs)) continue;
      starts[group]!++;
      count++;
    }
    // Ends first: writing from the last member down turns each end into its start.
    for (let group = 1; group < groups; group++) starts[group]! += starts[group - 1]!;
    starts[groups] = count;
    const members = this.#members[level]!;
    for (let gpu = table.size - 1; gpu >= 0; gpu--) {
      const group = table.group(gpu, level);
      if (group >= 0 && this.#present(gpu, sinceMs)) members[--starts[group]!] = gpu;
    }
  }
}
