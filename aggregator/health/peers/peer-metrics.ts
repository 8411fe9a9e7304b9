/** Metrics that peers are compared in; columns of the windows. */
export const METRIC = {
  core: 0,
  memory: 1,
  clock: 2,
  step: 3,
  watts: 4,
  tensor: 5,
  links: 6,
  linksUp: 7,
  linkErrors: 8,
  lanes: 9,
  corrected: 10,
  memoryUsed: 11,
  idleWatts: 12,
  stopped: 13,
} as const;

export interface PeerMetric {
  /** Canonical series that a finding names. */
  readonly signal: string;
  /** `straggler`: tells who holds the job up; `peer`: anything else. */
  readonly detector: 'peer' | 'straggler';
  /** `job`: comparable only among GPUs that share a named job; `device`: among any peers. */
  readonly scope: 'device' | 'job';
  /** Deviations are shares of the median instead of the metric's unit. */
  readonly relative: boolean;
  /** Least scale of z, in the metric's unit or as a share. */
  readonly floor: number;
  /** Least scale before the GPU's own offset is learned: how unlike healthy boards are. */
  readonly youngFloor: number;
  /** Largest offset that counts as how the board is: beyond it is a fault, also where it was there from the start. */
  readonly maxOffset: number;
  /** Which side is unusual: 1 high, -1 low, 0 both. */
  readonly side: -1 | 0 | 1;
  /** Several at once are no design but faults: no rule against a crowd. */
  readonly countsAlone: boolean;
  /** z at which it is unusual. */
  readonly limit: number;
}

const defaults = {
  detector: 'peer',
  scope: 'device',
  relative: false,
  side: 0,
  countsAlone: false,
  limit: 5,
} as const;

/**
 * In the order of METRIC. Floors: 1 °C is what sensors resolve; 15 MHz is the step of NVIDIA's SM clock (10 MHz rounded
 * up to 1 % of 1,500 MHz); 5 W is the accuracy that the manual of nvidia-smi gives for the power draw;
 * the others, the young floors, offsets and the limit of 5 (the Gaussian tail of 6e-7 with room for what is not
 * Gaussian) are own judgement, checked on simulated nodes with `bench -- siblings`.
 */
export const PEER_METRICS: readonly PeerMetric[] = [
  {
    ...defaults,
    signal: 'gpu_temperature_celsius{sensor="core"}',
    floor: 1,
    youngFloor: 2.5,
    maxOffset: 6,
    limit: 6,
  },
  {
    ...defaults,
    signal: 'gpu_temperature_celsius{sensor="memory"}',
    floor: 1,
    youngFloor: 2.5,
    maxOffset: 6,
    limit: 6,
  },
  {
    ...defaults,
    signal: 'gpu_clock_hertz{domain="sm"}',
    detector: 'straggler',
    relative: true,
    floor: 0.01,
    youngFloor: 0.015,
    maxOffset: 0.03,
    side: -1,
  },
  {
    ...defaults,
    signal: 'training_step_seconds',
    detector: 'straggler',
    scope: 'job',
    relative: true,
    floor: 0.02,
    youngFloor: 0.04,
    maxOffset: 0.1,
    side: 1,
  },
  {
    ...defaults,
    signal: 'gpu_power_watts',
    detector: 'straggler',
    scope: 'job',
    relative: true,
    floor: 0.02,
    youngFloor: 0.04,
    maxOffset: 0.15,
    limit: 6,
  },
  {
    ...defaults,
    signal: 'gpu_tensor_active_ratio',
    detector: 'straggler',
    scope: 'job',
    relative: true,
    floor: 0.02,
    youngFloor: 0.04,
    maxOffset: 0.15,
    limit: 6,
  },
  {
    ...defaults,
    signal: 'gpu_io_bytes_per_second{bus="nvlink",direction="transmit"}',
    detector: 'straggler',
    scope: 'job',
    relative: true,
    floor: 0.03,
    youngFloor: 0.05,
    maxOffset: 0.2,
    side: -1,
    limit: 6,
  },
  {
    ...defaults,
    signal: 'gpu_link_state',
    floor: 0.1,
    youngFloor: 0.1,
    maxOffset: 0,
    side: -1,
    countsAlone: true,
  },
  {
    ...defaults,
    signal: 'gpu_link_crc_flit_errors_total',
    floor: 20,
    youngFloor: 20,
    maxOffset: 0,
    side: 1,
    countsAlone: true,
  },
  {
    ...defaults,
    signal: 'gpu_pcie_link_width',
    floor: 0.75,
    youngFloor: 0.75,
    maxOffset: 0,
    side: -1,
    countsAlone: true,
  },
  {
    ...defaults,
    signal: 'gpu_ecc_errors_total{type="corrected"}',
    floor: 20,
    youngFloor: 20,
    maxOffset: 0,
    side: 1,
    countsAlone: true,
  },
  {
    ...defaults,
    signal: 'gpu_memory_utilization_ratio',
    scope: 'job',
    floor: 0.015,
    youngFloor: 0.03,
    maxOffset: 0.2,
    side: 1,
  },
  {
    ...defaults,
    signal: 'gpu_power_watts',
    floor: 5,
    youngFloor: 8,
    maxOffset: 20,
    side: 1,
  },
  {
    ...defaults,
    signal: 'gpu_utilization_ratio',
    detector: 'straggler',
    scope: 'job',
    floor: 0.1,
    youngFloor: 0.1,
    maxOffset: 0.1,
    side: -1,
  },
];

export const METRICS = PEER_METRICS.length;
