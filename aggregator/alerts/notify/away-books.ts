import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { ControlStore } from '../control/control-store.ts';
import { forgetAway, type NotifyShelf, ShelfDocs, writtenAway } from './shelf-docs.ts';

export interface AwayBooksOptions {
  readonly control: Pick<ControlStore, 'entries' | 'put' | 'delete' | 'get' | 'watch'>;
  readonly shelf: NotifyShelf;
  readonly shard: string;
  readonly logger: Logger;
}

/** `sent-away/<shard>/<endpoint>/<group>`: as the document of the group. */
const PREFIX = 'sent-away/';
/** Groups that the others hear of; of further ones they tell once more. */
const MAX_GROUPS = 1_000;

/** What an aggregator told while the control store was away, and how the others hear of it. */
export class AwayBooks implements Disposable {
  readonly #options: AwayBooksOptions;
  /** There may be something on disk. */
  #written = true;
  readonly #watch: Disposable;
  /** There may be something from others. */
  #news = true;

  constructor(options: AwayBooksOptions) {
    this.#options = options;
    this.#watch = options.control.watch(PREFIX, ({ value }) => {
      if (value !== undefined) this.#news = true;
    });
  }

  /** Books on the local disk, over what is known of the control store. */
  open(): Promise<ShelfDocs> {
    this.#written = true;
    const { control, shelf } = this.#options;
    return ShelfDocs.open(shelf, [...control.entries('sent/'), ...control.entries('sent-all/')]);
  }

  /** The control store is back: says what was told meanwhile. Never rejects: told twice is better than not at all. */
  async publish(): Promise<void> {
    try {
      if (this.#written) await this.#publish();
    } catch (thrown) {
      this.#options.logger.warn(
        { why: describeError(thrown) },
        'cannot say what was notified while NATS was away: some of it may be told again',
      );
    }
  }

  async #publish(): Promise<void> {
    const { control, shelf, shard } = this.#options;
    const groups = (await writtenAway(shelf)).filter(
      ([key, value]) => key.startsWith('sent/') && value !== null,
    );
    for (const [key, value] of groups.slice(0, MAX_GROUPS)) {
      const own = `${PREFIX}${shard}/${key.slice('sent/'.length)}`;
      await control.put(own, value, control.get(own)?.revision ?? 0);
    }
    await forgetAway(shelf);
    this.#written = false;
  }

  /** Hands over what others have said, and takes it out of the store. Twice does no harm. */
  take(absorb: (endpoint: string, record: unknown) => void): void {
    if (!this.#news) return;
    this.#news = false;
    const { control, logger } = this.#options;
    for (const { key, value, revision } of control.entries(PREFIX)) {
      absorb(key.split('/')[2] ?? '', value);
      control.delete(key, revision).catch((thrown: unknown) => {
        logger.warn({ why: describeError(thrown) }, 'cannot take out what was notified while NATS was away');
      });
    }
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }
}
