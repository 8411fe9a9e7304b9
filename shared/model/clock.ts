/** Time as an argument, so that a test can replay any moment. */
export interface Clock {
  /** Unix milliseconds: may step. */
  now(): number;
  /** Milliseconds since an arbitrary moment: never steps back. */
  monotonic(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};
