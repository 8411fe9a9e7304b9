import { describeError } from '#shared/errors/fleet-error.ts';
import type { Delivery } from '../notification.ts';
import { printable } from './short-text.ts';

/** What is known of an SMTP failure: the reply code where the server has said one, and about which recipient. */
interface SmtpFailure {
  readonly message: string;
  readonly responseCode?: number | undefined;
  readonly recipient?: string | undefined;
  readonly rejectedErrors?: readonly SmtpFailure[] | undefined;
}

const MAX_WORDS = 300;

/** The whole message failed: RFC 5321, 4.2.1: 4xx is for now, 5xx for good; no reply at all is for now. */
export function deliveryOfError(error: unknown, got: number): Delivery {
  const { responseCode, rejectedErrors = [] } =
    error instanceof Error ? (error as SmtpFailure) : failure(error);
  if (rejectedErrors.length > 0) return deliveryOfRejections(rejectedErrors, got);
  return verdict(responseCode === undefined || responseCode < 500, words(describeError(error)));
}

/**
 * Some recipients were rejected and `got` have it. One that may yet take it is worth another try; where all that are
 * left have been refused for good, somebody must hear of it, although others got it.
 */
export function deliveryOfRejections(rejections: readonly SmtpFailure[], got: number): Delivery {
  const forNow = rejections.filter(({ responseCode = 0 }) => responseCode < 500);
  const named = (forNow.length > 0 ? forNow : rejections).map(
    ({ recipient = '?', message }) => `${recipient}: ${message}`,
  );
  const others = got > 0 ? ` (${got} others got it)` : '';
  return verdict(forNow.length > 0, `${words(named.join('; '))}${others}`);
}

function verdict(forNow: boolean, why: string): Delivery {
  return forNow ? { outcome: 'retry', why } : { outcome: 'refused', why };
}

function failure(thrown: unknown): SmtpFailure {
  return { message: String(thrown) };
}

function words(text: string): string {
  return printable(text).slice(0, MAX_WORDS).toWellFormed();
}
