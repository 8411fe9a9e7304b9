import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '#shared/errors/fleet-error.ts';

export interface UntilOptions {
  readonly timeoutMs: number;
  /** What is waited for, as in "<what> did not happen within 5 s". */
  readonly what: string;
  /** Between two looks, milliseconds. */
  readonly everyMs?: number;
  /** Gives up early: returns why it cannot happen any more, or undefined. */
  readonly hopeless?: () => string | undefined;
  /** Added to the failure text, evaluated only then. */
  readonly detail?: () => string;
  readonly signal?: AbortSignal;
}

/** Looks again and again until `predicate` gives something truthy, and returns that. A throw counts as "not yet". */
export async function until<T>(
  predicate: () => T | Promise<T>,
  options: UntilOptions,
): Promise<NonNullable<Exclude<T, false | 0 | ''>>> {
  const deadline = performance.now() + options.timeoutMs;
  let last = '';
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      const value = await predicate();
      if (value) return value as NonNullable<Exclude<T, false | 0 | ''>>;
    } catch (error) {
      last = describeError(error);
    }
    const reason = options.hopeless?.();
    const late =
      performance.now() > deadline ? `did not happen within ${options.timeoutMs / 1000} s` : undefined;
    if (reason !== undefined || late !== undefined) {
      const parts = [`${options.what}: ${reason ?? late}`, last && `last error: ${last}`, options.detail?.()];
      throw new Error(parts.filter(Boolean).join('\n'));
    }
    await sleep(options.everyMs ?? 25);
  }
}
