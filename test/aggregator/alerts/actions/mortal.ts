import type { ControlStore } from '../../../../aggregator/alerts/control/control-store.ts';

/** A process that may die: from then on nothing that it asks of the world happens, and it hears of nothing. */
export class Mortal {
  dead = false;
  /** Touches of the world so far. */
  count = 0;
  readonly #at: number;
  readonly #before: boolean;

  /** Dies by itself at the `at`-th touch: before it reached the world, or before it heard back. */
  constructor(at = Number.POSITIVE_INFINITY, before = false) {
    this.#at = at;
    this.#before = before;
  }

  async touch<T>(work: () => Promise<T>): Promise<T> {
    if (this.dead) return NEVER;
    const dies = ++this.count === this.#at;
    if (dies) this.dead = true;
    if (dies && this.#before) return NEVER;
    const result = await work();
    return this.dead ? NEVER : result;
  }

  control(inner: ControlStore): ControlStore {
    return new Proxy(inner, {
      get: (target, name) => {
        if (name === 'put')
          return (key: string, value: unknown, expected: number) =>
            this.touch(() => target.put(key, value, expected));
        if (name === 'delete')
          return (key: string, expected: number) => this.touch(() => target.delete(key, expected));
        // Timers of a dead process find no work.
        if (name === 'state') return this.dead ? 'away' : target.state;
        const value = Reflect.get(target, name) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }
}

const NEVER = new Promise<never>(() => {});
