import { randomUUID } from 'node:crypto';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import { orderedKey, type Shelf, type ShelfChange } from './shelf.ts';

/** Asks agents to send again; see Replay in the telemetry contract. */
export interface ReplayOrder {
  readonly id: string;
  readonly fromMs: number;
  /** 0: no end. */
  readonly toMs: number;
  readonly reason: string;
}

interface KeptOrder extends ReplayOrder {
  /** Empty: all nodes. */
  readonly node: string;
  readonly orderedAtMs: number;
}

export interface ReplaysOptions {
  readonly shelf: Shelf;
  readonly clock: Clock;
}

/** As long as an agent's buffer reaches back by default: one that was away for longer has nothing to send. */
const KEEP_MS = 86_400_000;
/** An agent remembers as many that it has done. */
const MAX_ORDERS = 100;
const MAX_REASON = 1024;
const PREFIX = 'replay/';

/** Replays that were asked for. They are kept, so that an agent which is away now is told when it is back. */
export class Replays {
  readonly #options: ReplaysOptions;
  readonly #orders = new Map<string, KeptOrder>();
  #next = 1;

  private constructor(options: ReplaysOptions) {
    this.#options = options;
  }

  static async open(options: ReplaysOptions): Promise<Replays> {
    const replays = new Replays(options);
    for await (const [key, value] of options.shelf.entries(PREFIX)) {
      replays.#orders.set(key, value as KeptOrder);
      replays.#next = Number(key.slice(PREFIX.length)) + 1;
    }
    return replays;
  }

  /**
   * Resolves when the order is on disk; whoever is connected must then be told. Throws `invalid_input` for a range
   * that is none. Where there are too many, the two oldest become one that covers both: what is sent twice is known
   * to the store, and an order that an agent has not heard of never goes silently.
   */
  async request(what: {
    readonly fromMs: number;
    readonly toMs?: number;
    readonly node?: string;
    readonly reason: string;
  }): Promise<ReplayOrder> {
    const { clock, shelf } = this.#options;
    const { fromMs, toMs = 0, node = '', reason } = what;
    if (!isTime(fromMs) || !isTime(toMs) || (toMs !== 0 && toMs < fromMs))
      throw new FleetError(
        'invalid_input',
        `Cannot replay from ${fromMs} to ${toMs}: that is no range of time`,
      );
    const order: KeptOrder = {
      id: randomUUID(),
      fromMs: Math.round(fromMs),
      toMs: Math.round(toMs),
      reason: reason.slice(0, MAX_REASON).toWellFormed(),
      node,
      orderedAtMs: clock.now(),
    };
    const key = orderedKey(PREFIX, this.#next++);
    const changes = this.#makeRoom();
    this.#orders.set(key, order);
    try {
      await shelf.write([{ key, value: order }, ...changes], true);
    } catch (error) {
      this.#orders.delete(key);
      throw error;
    }
    return publicOf(order);
  }

  /** What a node should do, oldest first; it leaves out what it has done. */
  ordersFor(node: string): readonly ReplayOrder[] {
    const now = this.#options.clock.now();
    return [...this.#orders.values()]
      .filter((order) => now - order.orderedAtMs < KEEP_MS && (order.node === '' || order.node === node))
      .map(publicOf);
  }

  #makeRoom(): ShelfChange[] {
    const now = this.#options.clock.now();
    const changes: ShelfChange[] = [];
    for (const [key, { orderedAtMs }] of this.#orders) {
      if (now - orderedAtMs < KEEP_MS) continue;
      this.#orders.delete(key);
      changes.push({ key });
    }
    const [first, second] = this.#orders;
    if (!first || !second || this.#orders.size < MAX_ORDERS) return changes;
    const merged = mergeOrders(first[1], second[1]);
    this.#orders.delete(first[0]);
    this.#orders.set(second[0], merged);
    return [...changes, { key: first[0] }, { key: second[0], value: merged }];
  }
}

function mergeOrders(a: KeptOrder, b: KeptOrder): KeptOrder {
  return {
    // Another id: whoever has done one of them has not done both.
    id: randomUUID(),
    fromMs: Math.min(a.fromMs, b.fromMs),
    toMs: a.toMs === 0 || b.toMs === 0 ? 0 : Math.max(a.toMs, b.toMs),
    reason: b.reason,
    node: a.node === b.node ? a.node : '',
    orderedAtMs: b.orderedAtMs,
  };
}

function isTime(ms: number): boolean {
  return Number.isFinite(ms) && ms >= 0 && ms <= Number.MAX_SAFE_INTEGER;
}

function publicOf({ id, fromMs, toMs, reason }: KeptOrder): ReplayOrder {
  return { id, fromMs, toMs, reason };
}
