/** What went wrong, for programs. */
export type ErrorCode =
  | 'invalid_config'
  | 'invalid_input'
  | 'unavailable'
  | 'unauthenticated'
  | 'permission_denied'
  | 'not_found'
  | 'resource_exhausted'
  /** The two sides' versions do not fit: one of them must be updated. */
  | 'version_mismatch'
  | 'data_loss'
  | 'internal';

/**
 * The one error class. Messages read "Cannot <action> <value>: <cause>". Expected outcomes are values, not
 * throws; dropped data is a value and a counter, never only a throw.
 */
export class FleetError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryable?: boolean } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'FleetError';
    this.code = code;
    this.retryable = options.retryable ?? code === 'unavailable';
  }
}

/** A sentence for any thrown thing, causes included, at most 1,000 characters. */
export function describeError(thrown: unknown): string {
  const parts: string[] = [];
  let current: unknown = thrown;
  while (current !== undefined && current !== null && parts.length < 5) {
    if (current instanceof Error) {
      const code = (current as { code?: unknown }).code;
      const text = current.message || (typeof code === 'string' ? code : current.name);
      if (!parts.some((part) => part.includes(text))) parts.push(text);
      current = current.cause;
    } else {
      parts.push(String(current));
      break;
    }
  }
  return parts.join(': ').slice(0, 1000);
}
