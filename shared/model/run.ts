/**
 * One start of one agent. (node, run, sequence) identifies a record for ever: a sequence counts within its run,
 * so a reimaged node can never be taken for one whose records were already acknowledged.
 */
export interface Run {
  /** 128 random bits. */
  readonly id: Uint8Array;
  /** Counts the agent's starts on this disk from 1: orders the runs and forms the buffer's keys. */
  readonly counter: number;
}

export const RUN_ID_BYTES = 16;

export function runName(id: Uint8Array): string {
  return Buffer.from(id).toString('hex');
}
