import type { Kind } from '#shared/model/dictionary.ts';

/** One canonical metric: the truth about its unit, coding and physical range. */
export interface Metric {
  /** Prometheus name with base unit, such as gpu_power_watts. */
  readonly name: string;
  readonly kind: Kind;
  /** UCUM-like: W, J, Cel, Hz, By, By/s, s, 1; empty for enums and masks. */
  readonly unit: string;
  /** See Series.decimals: values are coded as round(value * 10^decimals). */
  readonly decimals: number;
  /** Physical range, both ends included: a value outside is quarantined. */
  readonly min: number;
  readonly max: number;
  readonly help: string;
}
