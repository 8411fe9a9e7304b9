/** Index of each reading in `PeerRow.readings`, with its unit. A reading that is not known is NaN. */
export const READING = {
  /** °C; the hotspot where a board has no core sensor. */
  coreCelsius: 0,
  memoryCelsius: 1,
  watts: 2,
  /** Enforced limit, W. */
  limitWatts: 3,
  smMegahertz: 4,
  /** Share of time with a kernel running, 0 to 1. */
  utilisation: 5,
  /** Bits of gpu_clock_event_reasons. */
  clockReasons: 6,
  /** Seconds of one step of the job, as this GPU's rank tells it. */
  stepSeconds: 7,
  /** Share of cycles, 0 to 1. */
  tensorActive: 8,
  /** NVLink or xGMI, transmitted, bytes a second. */
  linkBytesPerSecond: 9,
  /** Links that are up. */
  linksUp: 10,
  /** Counter: errors of all links. */
  linkErrors: 11,
  pcieLanes: 12,
  /** Counter: corrected ECC errors. */
  correctedErrors: 13,
  /** Share of device memory that is allocated, 0 to 1. */
  memoryUsed: 14,
} as const;

export const READINGS = Object.keys(READING).length;

/** How one GPU stood among its peers at the last round, by METRIC; NaN where it was not compared. Filled anew, reused. */
export interface PeerDeviations {
  /** Deviation after the offset, in floors of the metric: 1 is what sensors resolve. */
  readonly deviations: Float64Array;
  /** Denoised, in the metric's unit, and what the peers make one expect. */
  readonly values: Float64Array;
  readonly expected: Float64Array;
}

/** What one GPU shows at one moment. */
export interface PeerRow {
  readonly uuid: string;
  readonly cluster: string;
  readonly node: string;
  /** Index of the GPU in its node: which place in the airflow it has. */
  readonly slot: number;
  readonly model: string;
  readonly pool: string;
  /** Id of the job that has the GPU, '' without one or where nobody says. */
  readonly job: string;
  /** READINGS long; the owner may reuse it after the call. */
  readonly readings: Float64Array;
}
