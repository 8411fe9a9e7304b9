import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';

/** Routed in one go, 2 to 8 ms; then whatever else the process has to do comes first. Our own judgement. */
const SLICE = 200;
/** As many as a feed has. Beyond it whoever brings alerts waits while others are routed. */
const MAX_WAITING = 250_000;

/**
 * Alerts that wait to be routed: a hundred thousand may change within one tick, and who brings them must not wait for
 * that. First come, first routed; of an alert that waits only the last state is. Nothing is left out.
 */
export class AlertBacklog {
  readonly #route: (alert: Alert) => void;
  readonly #limit: number;
  /** By id; one that changes keeps its place. */
  readonly #waiting = new Map<string, Alert>();
  #timer: NodeJS.Immediate | undefined;
  #routed = 0;

  constructor(route: (alert: Alert) => void, limit = MAX_WAITING) {
    this.#route = route;
    this.#limit = limit;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** How many were routed; with `size` it tells when what waits now has been. */
  get routed(): number {
    return this.#routed;
  }

  add(alert: Alert): void {
    if (this.#waiting.size >= this.#limit && !this.#waiting.has(alert.id)) this.#slice();
    this.#waiting.set(alert.id, alert);
    this.#timer ??= setImmediate(() => this.#drain());
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#timer);
    this.#waiting.clear();
  }

  #drain(): void {
    this.#timer = undefined;
    this.#slice();
    if (this.#waiting.size > 0) this.#timer = setImmediate(() => this.#drain());
  }

  #slice(): void {
    let left = SLICE;
    for (const [id, alert] of this.#waiting) {
      this.#waiting.delete(id);
      this.#routed++;
      this.#route(alert);
      if (--left === 0) break;
    }
  }
}
