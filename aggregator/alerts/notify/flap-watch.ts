/** More beginnings than this within the window is flapping; it ends when nothing has changed for a window. */
const MAX_FIRES = 5;
/** Both figures are our own judgement: with `group_interval` at 5 minutes, five are what people were told anyway. */
const WINDOW_MS = 30 * 60_000;
/** Alerts watched; beyond it new ones are not, and are told as they come. */
const MAX_WATCHED = 250_000;

interface Watched {
  /** The latest beginnings, oldest first, at most one more than are allowed. */
  readonly fires: number[];
  changedMs: number;
  flapping: boolean;
}

/** Which alerts begin to fire too often to be told each time. Over a restart only that they did is kept. */
export class FlapWatch {
  readonly #alerts = new Map<string, Watched>();
  readonly #flapping = new Set<string>();

  /** An alert began to fire or ended. */
  note(id: string, fired: boolean, nowMs: number): void {
    let watched = this.#alerts.get(id);
    if (watched === undefined) {
      if (!fired || this.#alerts.size >= MAX_WATCHED) return;
      watched = { fires: [], changedMs: nowMs, flapping: false };
      this.#alerts.set(id, watched);
    }
    watched.changedMs = nowMs;
    if (!fired) return;
    watched.fires.push(nowMs);
    while (watched.fires.length > MAX_FIRES + 1 || watched.fires[0]! < nowMs - WINDOW_MS)
      watched.fires.shift();
    if (watched.fires.length > MAX_FIRES) {
      watched.flapping = true;
      this.#flapping.add(id);
    }
  }

  /** It was said to flap before a restart. */
  restore(id: string, nowMs: number): void {
    if (this.#alerts.size >= MAX_WATCHED) return;
    this.#alerts.set(id, { fires: [], changedMs: nowMs, flapping: true });
    this.#flapping.add(id);
  }

  /** How often a flapping alert began to fire within the window, at least 1; 0 for one that does not flap. */
  flaps(id: string): number {
    if (this.#flapping.size === 0) return 0;
    const watched = this.#alerts.get(id);
    return watched?.flapping ? Math.max(1, watched.fires.length) : 0;
  }

  /** Forgets what is long ago; returns the alerts that have become stable. */
  advance(nowMs: number): string[] {
    const stable: string[] = [];
    for (const [id, watched] of this.#alerts) {
      if (watched.changedMs > nowMs - WINDOW_MS) continue;
      this.#alerts.delete(id);
      if (this.#flapping.delete(id)) stable.push(id);
    }
    return stable;
  }
}
