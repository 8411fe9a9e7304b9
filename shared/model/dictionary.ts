/** What a series is: decides how its values are coded, aggregated and evaluated. */
export type Kind = 'gauge' | 'counter' | 'info';

/** Sorted by label name, no name twice, no empty name or value. */
export type Labels = readonly (readonly [name: string, value: string])[];

/**
 * One slot of a dictionary. Labels `cluster` and `node` are never in it: the aggregator adds them from the
 * stream's identity, so that an agent cannot write another node's series.
 */
export interface Series {
  /** Prometheus metric name: canonical (gpu_power_watts), or as the source gave it where it passed through. */
  readonly name: string;
  readonly labels: Labels;
  readonly kind: Kind;
  /**
   * Values are coded as the integer round(value * 10^decimals); negative for values that end in zeros. A value
   * that this does not hold exactly is coded as a float64: correct, only larger.
   */
  readonly decimals: number;
  readonly help: string;
  /** UCUM-like unit of the catalogue (`W`, `By`, `Cel`), empty where unknown. */
  readonly unit: string;
}

/**
 * The series of one group (one source at one interval) in slot order. Immutable: a change of any series makes
 * a new dictionary. Stages compile what they need once for each dictionary object and keep it in a WeakMap.
 */
export interface Dictionary {
  /** First 8 bytes of the SHA-256 of its stored form: the same content has the same hash anywhere. */
  readonly hash: bigint;
  /** Name of the source, such as `dcgm-exporter` or `simulated`. At most one live dictionary for each group. */
  readonly group: string;
  readonly intervalMs: number;
  readonly series: readonly Series[];
}

/** The value of a label, or undefined. Linear: label sets are small. */
export function labelOf(labels: Labels, name: string): string | undefined {
  for (const [label, value] of labels) if (label === name) return value;
  return undefined;
}
