import { describeError } from '#shared/errors/fleet-error.ts';
import type { Delivery, Notification, Receiver } from '../notification.ts';

/** What a kind of receiver has to bring: one try, which may throw (that is a retry) and may ignore its signal. */
export interface Way {
  /** See Receiver. */
  readonly refreshMs?: number;
  send(notification: Notification, signal: AbortSignal): Promise<Delivery>;
  close?(): Promise<void>;
}

/** A receiver that keeps the promises of the contract whatever its way does: deadline, no rejection, disposal. */
export function guarded(kind: string, way: Way): Receiver {
  const closing = new AbortController();
  const underway = new Set<Promise<Delivery>>();
  return {
    kind,
    ...(way.refreshMs !== undefined && { refreshMs: way.refreshMs }),
    async send(notification, deadline) {
      const signal = AbortSignal.any([deadline, closing.signal]);
      const sending = once(way, notification, signal, () => closing.signal.aborted);
      underway.add(sending);
      try {
        return await sending;
      } finally {
        underway.delete(sending);
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await Promise.all(underway);
      await way.close?.();
    },
  };
}

async function once(
  way: Way,
  notification: Notification,
  signal: AbortSignal,
  closed: () => boolean,
): Promise<Delivery> {
  const interrupted = (): Delivery => ({
    outcome: 'retry',
    why: closed() ? 'the receiver is being closed' : 'no answer within the time allowed',
  });
  if (signal.aborted) return interrupted();
  const { promise: aborted, resolve } = Promise.withResolvers<Delivery>();
  const onAbort = (): void => resolve(interrupted());
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([tried(way, notification, signal, interrupted), aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

async function tried(
  way: Way,
  notification: Notification,
  signal: AbortSignal,
  interrupted: () => Delivery,
): Promise<Delivery> {
  try {
    return await way.send(notification, signal);
  } catch (error) {
    return signal.aborted ? interrupted() : { outcome: 'retry', why: describeError(error) };
  }
}
