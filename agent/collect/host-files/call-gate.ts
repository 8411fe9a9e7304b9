import type { Logger } from '#shared/logging/logger.ts';

/** Of the four threads that Node has for files, and that the buffer's database needs too: half. */
const MAX_HANGING = 2;
/** Kept until they are taken. */
const MAX_NOTES = 16;

/** Calls of this process that hang, whatever source made them: the threads are the process's. */
let hangingInProcess = 0;

/** A call began to hang, or came back. */
export interface HangNote {
  readonly what: string;
  readonly over: boolean;
}

/**
 * Lets calls into the kernel through that may never return (a network card whose firmware does not answer, a dead
 * mount). Each is given up at its signal; while it hangs nothing more is begun for its key, and while MAX_HANGING
 * calls of the process hang nothing at all: a thread that is stuck in the kernel cannot be had back.
 */
export class CallGate {
  readonly #source: string;
  readonly #logger: Logger;
  readonly #hanging = new Set<string>();
  #notes: HangNote[] = [];

  constructor({ source, logger }: { readonly source: string; readonly logger: Logger }) {
    this.#source = source;
    this.#logger = logger;
  }

  /** A call for this key has not come back. */
  hangs(key: string): boolean {
    return this.#hanging.has(key);
  }

  /**
   * What the call gives or throws; undefined where it was given up or not begun. `what` is for people. The key ''
   * is for what never hangs (files of /proc) and goes on where other calls hang.
   */
  async call<T>(
    key: string,
    signal: AbortSignal,
    what: string,
    op: () => Promise<T>,
  ): Promise<T | undefined> {
    if (signal.aborted || this.#hanging.has(key)) return undefined;
    if (key !== '' && hangingInProcess >= MAX_HANGING) return undefined;
    const pending = op();
    if (await settledBefore(pending, signal)) return pending;
    this.#hanging.add(key);
    hangingInProcess++;
    this.#note({ what, over: false });
    pending
      .catch(() => {})
      .finally(() => {
        this.#hanging.delete(key);
        hangingInProcess--;
        this.#note({ what, over: true });
      });
    return undefined;
  }

  /** What began to hang or came back since the last time, the newest MAX_NOTES. */
  takeNotes(): readonly HangNote[] {
    if (this.#notes.length === 0) return NOTHING;
    const notes = this.#notes;
    this.#notes = [];
    return notes;
  }

  #note(note: HangNote): void {
    const text = note.over ? 'a call came back from the kernel' : 'a call does not come back from the kernel';
    this.#logger.warn({ source: this.#source, call: note.what }, text);
    this.#notes.push(note);
    if (this.#notes.length > MAX_NOTES) this.#notes.shift();
  }
}

const NOTHING: readonly HangNote[] = [];

/** Whether the promise settles before the signal aborts. */
function settledBefore(pending: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const onAbort = (): void => resolve(false);
    const onSettled = (): void => {
      signal.removeEventListener('abort', onAbort);
      resolve(true);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    pending.then(onSettled, onSettled);
  });
}
