/**
 * Lines and waits are our own judgement, chosen so that a swing between 79 and 87 moves nothing. Below this for so
 * long is degraded: three evaluations of 30 s. A cap at or under the second is a warning: degraded at once.
 */
export const DEGRADED_BELOW = 80;
export const DEGRADED_AFTER_MS = 90_000;
export const WARNING_CAP = 60;
/** Healthy again only well above, and for half an hour. */
export const HEALTHY_FROM = 88;
export const HEALTHY_AFTER_MS = 30 * 60_000;
/** Below this for a minute is critical: two evaluations of 30 s. A cap at or under the second is critical at once. */
export const CRITICAL_BELOW = 50;
export const CRITICAL_AFTER_MS = 60_000;
export const CRITICAL_CAP = 30;
export const RECOVERED_FROM = 60;
export const RECOVERED_AFTER_MS = 2 * 3_600_000;
/** Unknown is left after three good evaluations of 30 s. */
export const KNOWN_AFTER_MS = 90_000;
/** Share of a GPU's signals that must be known for its score to say something. */
export const LEAST_CONFIDENCE = 0.6;
/** A critical GPU that falls silent stays critical for so long: silence heals nothing. */
export const STALE_CRITICAL_MS = 24 * 3_600_000;
/** More changes than these within the window, and the worse state is pinned for as long. */
export const MAX_CHANGES = 4;
export const FLAP_WINDOW_MS = 24 * 3_600_000;
export const PIN_MS = 24 * 3_600_000;
/** Time between two steps counts up to this: what nobody looked at did not hold. The longest interval that is served. */
export const LONGEST_STEP_MS = 60_000;
