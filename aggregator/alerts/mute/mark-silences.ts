import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { toSubject } from '../bus/subject.ts';
import { type SilenceRequest, stateOf } from './silence.ts';
import type { Silences } from './silences.ts';

/** What an operator said of a node. */
export interface NodeMark {
  readonly state: string;
  readonly by: string;
  readonly why: string;
  /** Unix milliseconds; undefined for until it is taken back. */
  readonly untilMs?: number;
}

interface MarkSilencesOptions {
  readonly silences: Silences;
  /** Names this aggregator: each has marks of its own. */
  readonly shard: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Marks that silence: those under which nobody places work on the node. A degraded node goes on working. */
const SILENCING = ['drained', 'maintenance'];
/** A mark without an end is silent for so long at a time, and longer before half of it is over. */
const TERM_MS = 30 * 86_400_000;
/** As many nodes as may have a mark. */
const MAX_MARKS = 100_000;
/** Of a silence's author and comment, see silence.ts. */
const MAX_BY = 256;
const MAX_COMMENT = 1_000;

/** Keeps a silence for each node that is marked as drained or in maintenance. */
export class MarkSilences {
  readonly #options: MarkSilencesOptions;
  /** The silencing marks that there are, by the id of their silence. */
  readonly #marks = new Map<string, SilenceRequest>();
  /** Ids whose silence is not yet as its mark. */
  readonly #dirty = new Set<string>();
  #running: Promise<void> | undefined;
  #failed = false;
  #begun = false;

  constructor(options: MarkSilencesOptions) {
    this.#options = options;
  }

  /**
   * To be told of each mark of a node: at the start, when it is set, and (undefined) when it is taken back or over.
   * Returns at once; what cannot be written yet is tried again by `advance`.
   */
  syncMark(cluster: string, node: string, mark: NodeMark | undefined): void {
    const id = toSubject('mark-node', cluster, node);
    const { silences } = this.#options;
    if (mark === undefined || !SILENCING.includes(mark.state)) {
      if (!this.#marks.delete(id) && silences.get(id) === undefined) return;
    } else {
      if (!this.#marks.has(id) && this.#marks.size >= MAX_MARKS) return;
      const matchers = [
        { label: 'cluster', operator: '=' as const, value: cluster },
        { label: 'node', operator: '=' as const, value: node },
      ];
      this.#marks.set(id, { ...requestOf(id, mark), matchers, owner: this.#options.shard });
    }
    this.#dirty.add(id);
    this.#start();
  }

  /**
   * To be called once all marks were told at the start: a mark that was taken back just before the process before this
   * one ended may have left its silence, and nobody would hear of that node for a month.
   */
  endOthers(): void {
    if (this.#begun) return;
    this.#begun = true;
    for (const { id, owner } of this.#options.silences.list(false))
      if (owner === this.#options.shard && !this.#marks.has(id)) this.#dirty.add(id);
    if (this.#dirty.size > 0) this.#start();
  }

  /** Once a second or so: tries again what failed, and keeps marks silent that have no end. */
  advance(): void {
    const nowMs = this.#options.clock.now();
    for (const [id, request] of this.#marks) {
      if (request.endsAtMs <= nowMs) this.#marks.delete(id);
      else if (request.endsAtMs === Number.POSITIVE_INFINITY && this.#isDue(id, nowMs)) this.#dirty.add(id);
    }
    if (this.#dirty.size > 0) this.#start();
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    await this.#running;
  }

  #isDue(id: string, nowMs: number): boolean {
    const silence = this.#options.silences.get(id);
    return silence === undefined || silence.endsAtMs - nowMs < TERM_MS / 2;
  }

  #start(): void {
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    // A turn later, so that a run never ends before it is known to have begun.
    await Promise.resolve();
    for (const id of this.#dirty) {
      this.#dirty.delete(id);
      try {
        await this.#sync(id);
        this.#failed = false;
      } catch (thrown) {
        this.#dirty.add(id);
        if (!this.#failed)
          this.#options.logger.warn({ id, why: describeError(thrown) }, 'cannot silence a marked node yet');
        this.#failed = true;
        break;
      }
    }
    this.#running = undefined;
  }

  async #sync(id: string): Promise<void> {
    const { silences, clock } = this.#options;
    const nowMs = clock.now();
    const request = this.#marks.get(id);
    const silence = silences.get(id);
    const isOver = silence === undefined || stateOf(silence, nowMs) === 'expired';
    if (request === undefined || request.endsAtMs <= nowMs) {
      if (!isOver) await silences.expire(id, silence.by, { fromMark: true });
      return;
    }
    const endsAtMs = Math.min(request.endsAtMs, nowMs + TERM_MS);
    const isSame =
      !isOver &&
      silence.by === request.by &&
      silence.comment === request.comment &&
      (request.endsAtMs <= nowMs + TERM_MS
        ? silence.endsAtMs === endsAtMs
        : silence.endsAtMs - nowMs >= TERM_MS / 2);
    if (!isSame) await silences.set({ ...request, endsAtMs });
  }
}

function requestOf(id: string, { state, by, why, untilMs }: NodeMark): Omit<SilenceRequest, 'matchers'> {
  return {
    id,
    by: by.slice(0, MAX_BY).trim() || 'unknown',
    comment: `The node is marked ${state}: ${why}`.slice(0, MAX_COMMENT),
    endsAtMs: untilMs ?? Number.POSITIVE_INFINITY,
    fromMark: true,
  };
}
