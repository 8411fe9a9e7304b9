import { FleetError } from '#shared/errors/fleet-error.ts';
import { checkMatcher, compileMatcher, type Matcher } from './matchers.ts';

/** A time during which nobody is notified of the alerts that match. */
export interface Silence {
  readonly id: string;
  /** All must match. */
  readonly matchers: readonly Matcher[];
  /** Unix milliseconds; `endsAtMs` is the first moment at which it no longer holds. */
  readonly startsAtMs: number;
  readonly endsAtMs: number;
  readonly by: string;
  readonly comment: string;
  readonly updatedAtMs: number;
  /** Follows a mark of a node or pool, and is changed with it alone. */
  readonly fromMark: boolean;
  /** The aggregator that keeps it in step with a mark. */
  readonly owner?: string;
}

export type SilenceState = 'pending' | 'active' | 'expired';

/** What is asked for. */
export interface SilenceRequest {
  /** Of the silence to change; left out or empty for a new one. */
  readonly id?: string;
  readonly matchers: readonly Matcher[];
  /** Now, where it is left out or past. */
  readonly startsAtMs?: number;
  readonly endsAtMs: number;
  readonly by: string;
  readonly comment: string;
  /** For silences that follow a mark, whose ids are given by who keeps them in step. */
  readonly fromMark?: boolean;
  readonly owner?: string;
}

/** A year: what is to be silent for ever is a rule to switch off. Own judgement. */
const MAX_LENGTH_MS = 366 * 86_400_000;
const MAX_MATCHERS = 32;
const MAX_BY = 256;
const MAX_COMMENT = 1_000;

export function stateOf({ startsAtMs, endsAtMs }: Silence, nowMs: number): SilenceState {
  if (nowMs >= endsAtMs) return 'expired';
  return nowMs < startsAtMs ? 'pending' : 'active';
}

/** Throws `invalid_input` for what no silence may be. */
export function checkRequest(request: SilenceRequest, nowMs: number): void {
  const { matchers, endsAtMs, by, comment } = request;
  const startsAtMs = request.startsAtMs ?? nowMs;
  if (matchers.length === 0 || matchers.length > MAX_MATCHERS)
    throw refused(`it needs 1 to ${MAX_MATCHERS} matchers, and has ${matchers.length}`);
  for (const matcher of matchers) checkMatcher(matcher);
  if (matchers.every((matcher) => compileMatcher(matcher).matches('')))
    throw refused('its matchers match everything: at least one must not match an empty value');
  if (!text(by, MAX_BY)) throw refused(`it needs an author of at most ${MAX_BY} characters`);
  if (!text(comment, MAX_COMMENT)) throw refused(`it needs a comment of at most ${MAX_COMMENT} characters`);
  if (!Number.isFinite(startsAtMs) || !Number.isFinite(endsAtMs)) throw refused('its times must be times');
  if (endsAtMs <= nowMs) throw refused('its end must be in the future');
  if (endsAtMs <= startsAtMs) throw refused('its end must come after its start');
  if (endsAtMs - nowMs > MAX_LENGTH_MS) throw refused('its end must be within a year');
}

export function sameMatchers(a: readonly Matcher[], b: readonly Matcher[]): boolean {
  const texts = (matchers: readonly Matcher[]): string =>
    JSON.stringify(
      matchers.map(({ label, operator, value }) => JSON.stringify([label, operator, value])).sort(),
    );
  return texts(a) === texts(b);
}

/** A document of the store as a silence; undefined where it is none. */
export function readSilence(value: unknown): Silence | undefined {
  const silence = value as Partial<Silence> | null | undefined;
  if (typeof silence?.id !== 'string' || !Array.isArray(silence.matchers)) return undefined;
  if (typeof silence.startsAtMs !== 'number' || typeof silence.endsAtMs !== 'number') return undefined;
  try {
    for (const matcher of silence.matchers as Matcher[]) checkMatcher(matcher);
  } catch {
    return undefined;
  }
  return silence as Silence;
}

function text(value: string, max: number): boolean {
  return value.trim() !== '' && value.length <= max;
}

function refused(why: string): FleetError {
  return new FleetError('invalid_input', `Cannot set silence: ${why}`);
}
