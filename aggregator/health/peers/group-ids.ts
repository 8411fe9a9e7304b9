/** Small integers for groups of GPUs, by key; an id is used again when its last member has left. */
export class GroupIds {
  /** Known members by id. */
  readonly members: number[] = [];
  readonly #ids = new Map<string, number>();
  readonly #keys: string[] = [];
  readonly #free: number[] = [];

  /** Ids run from 0 to below this. */
  get limit(): number {
    return this.members.length;
  }

  join(key: string): number {
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#free.pop() ?? this.members.length;
      this.#ids.set(key, id);
      this.#keys[id] = key;
      this.members[id] = 0;
    }
    this.members[id]!++;
    return id;
  }

  /** True where it was the last one and the id is free again. */
  leave(id: number): boolean {
    if (--this.members[id]! > 0) return false;
    this.#ids.delete(this.#keys[id]!);
    this.#free.push(id);
    return true;
  }
}
