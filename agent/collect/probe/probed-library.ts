import type { SlotState } from '#shared/model/slot-state.ts';

/**
 * What a module that a probe's child loads must export as `open`: called once with the options that the parent gave.
 * It does not throw and does not open anything yet: that is the first read's.
 */
export type OpenLibrary = (options: unknown) => ProbedLibrary;

/** Called from one thread, one read at a time; may block. A throw ends the child. */
export interface ProbedLibrary {
  read(group: number): LibraryAnswer;
}

export type LibraryAnswer =
  | {
      /** Given when it differs from the last one given, of any group. */
      readonly description?: object;
      /** Owned by the library until its next read. */
      readonly values: Float64Array;
      readonly states: Uint8Array;
    }
  | {
      readonly failure: string;
      readonly state: Exclude<SlotState, typeof SlotState.Present>;
      /** The child is of no more use: it ends after it has said this, and the next read starts another one. */
      readonly end?: boolean;
    };
