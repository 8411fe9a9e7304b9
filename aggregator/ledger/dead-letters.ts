import { createHash } from 'node:crypto';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Ledger } from './ledger.ts';
import { type LedgerEntry, tidyLoss } from './ledger-entry.ts';
import { orderedKey, type Shelf } from './shelf.ts';

/** A series that the store refused for its content. */
export interface RefusedSeries {
  readonly cluster: string;
  readonly node: string;
  /** As Prometheus writes it: name{label="value"}. */
  readonly series: string;
  /** How many samples of it were refused, and their range, Unix ms. */
  readonly samples: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** HTTP status and words of the store. */
  readonly status: number;
  readonly answer: string;
  /** The bytes that were refused, to be offered again. */
  readonly body: Uint8Array;
}

export interface DeadLetter extends Omit<RefusedSeries, 'body'> {
  /** 16 hex digits over what was refused: the same samples refused again are the same letter. */
  readonly id: string;
  /** Rises with each letter: their order. */
  readonly number: number;
  readonly recordedAtMs: number;
}

interface StoredLetter extends DeadLetter {
  readonly ledgerId: string;
  /** Base64. */
  readonly body: string;
}

export interface DeadLettersOptions {
  readonly shelf: Shelf;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly registry: Registry;
  /** Offers a letter to the store again. Rejects where the store cannot be asked. */
  readonly offer: (body: Uint8Array) => Promise<'accepted' | { readonly refused: string }>;
  /** Most letters kept; 10,000 by default. The oldest leave, and stay in the loss ledger. */
  readonly maxLetters?: number;
  /** Most letters of one node; 1,000 by default. */
  readonly maxLettersPerNode?: number;
  /** Most bytes of all letters, as they are kept; 64 MiB by default. */
  readonly maxBytes?: number;
}

const PREFIX = 'dead/';
const MAX_TEXT = 4_096;
/** Of series and answer, in a sentence of the ledger. */
const MAX_QUOTE = 400;

/**
 * What the store will not have, with its words, until somebody has looked at it. Each letter is also an entry of the
 * loss ledger until the store takes it: then both are gone. A letter that leaves because there are too many stays a
 * loss for good.
 */
export class DeadLetters {
  readonly #options: DeadLettersOptions;
  /** By key, oldest first. */
  readonly #letters = new Map<string, StoredLetter>();
  readonly #keys = new Map<string, string>();
  readonly #perNode = new Map<string, number>();
  readonly #dropped: Counter;
  #bytes = 0;
  #next = 1;

  private constructor(options: DeadLettersOptions) {
    this.#options = options;
    this.#dropped = counter(options.registry, {
      name: 'gpufleet_dead_letters_dropped_total',
      help: 'Dead letters that left the list because it was full; they stay in the loss ledger.',
    });
    const size = (): number => this.#letters.size;
    gauge(options.registry, {
      name: 'gpufleet_dead_letters',
      help: 'Series that the store refused for their content and that wait for somebody to look at them.',
      collect() {
        this.set(size());
      },
    });
  }

  static async open(options: DeadLettersOptions): Promise<DeadLetters> {
    const letters = new DeadLetters(options);
    for await (const [key, value] of options.shelf.entries(PREFIX)) letters.#put(key, value as StoredLetter);
    return letters;
  }

  /** Resolves when the letter and its loss are on disk. The same refusal again changes nothing. */
  async add(refused: RefusedSeries): Promise<void> {
    const { shelf, ledger, clock } = this.#options;
    const id = idOf(refused);
    const { fromMs, toMs, samples } = tidyLoss({
      ...refused,
      reason: 'refused',
      estimated: false,
      detail: '',
    });
    const [series, answer] = [textOf(refused.series), textOf(refused.answer)];
    // The fact first: whatever comes after it, the samples are accounted for.
    const entry = await ledger.record(refused, `dead-letter/${id}`, {
      ...{ fromMs, toMs, samples, reason: 'refused', estimated: false },
      detail: `The store refused ${series.slice(0, MAX_QUOTE)} (${refused.status}): ${answer.slice(0, MAX_QUOTE)}; dead letter ${id}`,
    });
    if (this.#keys.has(id)) return;
    const number = this.#next++;
    const key = orderedKey(PREFIX, number);
    const letter: StoredLetter = {
      ...{ id, cluster: refused.cluster, node: refused.node, series, samples, fromMs, toMs, answer },
      status: Number.isInteger(refused.status) && refused.status > 0 ? refused.status : 0,
      number,
      recordedAtMs: clock.now(),
      ledgerId: entry.id,
      body: Buffer.from(refused.body).toString('base64'),
    };
    this.#put(key, letter);
    try {
      await shelf.write([{ key, value: letter }], true);
    } catch (error) {
      this.#remove(key);
      throw error;
    }
    const gone = this.#overflow(nodeOf(letter));
    // Where the disk refuses, the next start drops them.
    if (gone.length > 0) await shelf.write(gone, false).catch(() => {});
  }

  /** Newest first. */
  list(node?: string): DeadLetter[] {
    const found = [...this.#letters.values()].filter((letter) => node === undefined || letter.node === node);
    return found.reverse().map(({ body: _, ledgerId: __, ...letter }) => letter);
  }

  /**
   * Offers letters to the store again, oldest first, all where none is named; those that it takes are no loss any
   * more. Throws `not_found` before anything is offered where one is not there, and what `offer` throws where the
   * store cannot be asked: what was taken before that is done.
   */
  async replay(ids: readonly string[]): Promise<{ accepted: number; refused: number }> {
    const keys =
      ids.length === 0 ? [...this.#letters.keys()] : [...new Set(ids)].map((id) => this.#keyOf(id));
    let accepted = 0;
    for (const key of keys.sort()) {
      const letter = this.#letters.get(key);
      // Somebody else has replayed it meanwhile.
      if (!letter) continue;
      if ((await this.#options.offer(Buffer.from(letter.body, 'base64'))) === 'accepted') {
        accepted++;
        await this.#settle(key, letter);
      }
    }
    return { accepted, refused: keys.filter((key) => this.#letters.has(key)).length };
  }

  /** The ledger first: a stop in between leaves a letter that is offered again, and the store knows its samples. */
  async #settle(key: string, letter: StoredLetter): Promise<void> {
    if (!this.#letters.has(key)) return;
    this.#remove(key);
    const { shelf, ledger } = this.#options;
    await ledger.forget({ ...letter, id: letter.ledgerId, ...REFUSED });
    await shelf.write([{ key }], true);
  }

  #keyOf(id: string): string {
    const key = this.#keys.get(id);
    if (key === undefined)
      throw new FleetError(
        'not_found',
        `Cannot replay dead letter ${id.slice(0, 64)}: there is no such letter`,
      );
    return key;
  }

  #put(key: string, letter: StoredLetter): void {
    this.#letters.set(key, letter);
    this.#keys.set(letter.id, key);
    this.#bytes += bytesOf(letter);
    const node = nodeOf(letter);
    this.#perNode.set(node, (this.#perNode.get(node) ?? 0) + 1);
    this.#next = Math.max(this.#next, Number(key.slice(PREFIX.length)) + 1);
  }

  #remove(key: string): void {
    const letter = this.#letters.get(key);
    if (!letter) return;
    this.#letters.delete(key);
    this.#keys.delete(letter.id);
    this.#bytes -= bytesOf(letter);
    const node = nodeOf(letter);
    const left = this.#perNode.get(node)! - 1;
    if (left > 0) this.#perNode.set(node, left);
    else this.#perNode.delete(node);
  }

  #overflow(node: string): { key: string }[] {
    const { maxLetters = 10_000, maxLettersPerNode = 1_000, maxBytes = 64 * 2 ** 20 } = this.#options;
    const gone: { key: string }[] = [];
    const drop = (key: string): void => {
      this.#remove(key);
      this.#dropped.inc();
      gone.push({ key });
    };
    if ((this.#perNode.get(node) ?? 0) > maxLettersPerNode) {
      for (const [key, letter] of this.#letters) {
        if (nodeOf(letter) !== node) continue;
        drop(key);
        break;
      }
    }
    for (const key of this.#letters.keys()) {
      if (this.#letters.size <= maxLetters && this.#bytes <= maxBytes) break;
      drop(key);
    }
    return gone;
  }
}

const REFUSED: Pick<LedgerEntry, 'identity' | 'reason' | 'estimated' | 'detail'> = {
  identity: '',
  reason: 'refused',
  estimated: false,
  detail: '',
};

/** 64 bits: among 10,000 letters two share an id with a probability of 3e-12. */
function idOf({ cluster, node, series, fromMs, toMs, samples }: RefusedSeries): string {
  const text = JSON.stringify([cluster, node, series, fromMs, toMs, samples]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** What a letter takes on disk, and about half of what it takes in memory. */
function bytesOf({ body, series, answer }: StoredLetter): number {
  return body.length + series.length + answer.length;
}

function nodeOf({ cluster, node }: { readonly cluster: string; readonly node: string }): string {
  return `${cluster}\n${node}`;
}

function textOf(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed();
}
