import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { ControlShelf } from './control-shelf.ts';
import { type KeptDocument, type KeptHead, keptChanges, readKept } from './kept-documents.ts';

/** Documents in one write: what a snapshot of the bucket brings is not held twice at once. */
const BATCH = 2_000;

/**
 * What was last known of the bucket, on disk, so that a start while NATS is away knows the silences. Written behind
 * the changes and without a sync: what a crash loses, the next connection brings.
 */
export class ControlMirror {
  readonly #shelf: ControlShelf;
  readonly #logger: Logger;
  readonly #dirty = new Map<string, KeptDocument>();
  #head: KeptHead;
  #writing: Promise<void> | undefined;
  #failed = false;

  private constructor(shelf: ControlShelf, logger: Logger, head: KeptHead) {
    this.#shelf = shelf;
    this.#logger = logger;
    this.#head = head;
  }

  static async open(
    shelf: ControlShelf,
    logger: Logger,
  ): Promise<{ mirror: ControlMirror; documents: KeptDocument[] }> {
    const { documents, head } = await readKept(shelf);
    return { mirror: new ControlMirror(shelf, logger, head), documents };
  }

  /** Which bucket this is a copy of; empty for none yet. */
  get bucket(): string {
    return this.#head.bucket;
  }

  /** Notes a change; without a value the document went. */
  note(document: KeptDocument): void {
    this.#dirty.set(document.key, document);
    this.#head = { ...this.#head, revision: Math.max(this.#head.revision, document.revision) };
    this.#start();
  }

  /** From here on this is a copy of that bucket: said once all that was noted is written. */
  adopt(bucket: string): void {
    this.#head = { ...this.#head, bucket };
    this.#start();
  }

  async settled(): Promise<void> {
    await this.#writing;
  }

  #start(): void {
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    // A turn later: what comes together is written together.
    await Promise.resolve();
    let written: KeptHead | undefined;
    while (this.#dirty.size > 0 || written !== this.#head) {
      const batch = this.#take();
      const head = this.#dirty.size === 0 ? this.#head : undefined;
      try {
        await this.#shelf.write(head ? keptChanges(batch, head) : keptChanges(batch), false);
        if (head !== undefined) written = head;
        this.#failed = false;
      } catch (thrown) {
        // Tried again with the next change.
        for (const document of batch)
          if (!this.#dirty.has(document.key)) this.#dirty.set(document.key, document);
        if (!this.#failed)
          this.#logger.error({ why: describeError(thrown) }, 'cannot keep control documents on disk');
        this.#failed = true;
        break;
      }
    }
    this.#writing = undefined;
  }

  #take(): KeptDocument[] {
    const batch: KeptDocument[] = [];
    for (const document of this.#dirty.values()) {
      if (batch.length >= BATCH) break;
      batch.push(document);
    }
    for (const { key } of batch) this.#dirty.delete(key);
    return batch;
  }
}
