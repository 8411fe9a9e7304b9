import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import type { DetectorName } from './anomaly.ts';

const DETECTOR_NAMES = [
  'level',
  'shift',
  'slope',
  'frozen',
  'rate',
  'entropy',
  'row',
  'isolation',
  'peer',
  'straggler',
] as const satisfies readonly DetectorName[];

/** Metrics that may be named in settings: more than there are channels, far fewer than a mistake makes. */
const MAX_METRICS = 200;

const times = v.pipe(
  v.number('must be a number'),
  v.finite('must be finite'),
  v.minValue(0.1, 'must be at least 0.1'),
  v.maxValue(1000, 'must be at most 1000'),
);

const metric = v.strictObject({
  /** Its thresholds are multiplied by this: 2 is half as sensitive. */
  times: v.optional(times, 1),
  /** A deviation smaller than this, in the metric's unit, is never one. */
  floor: v.optional(v.pipe(v.number('must be a number'), v.minValue(0, 'must not be negative')), 0),
});

/** What detectors may be told; every setting has a default. */
export const detectionSettings = v.strictObject({
  /**
   * How many false alarms a GPU may raise in a week, all block detectors together. Thresholds follow from it. 0.02
   * is one alarm a year and GPU: own judgement, 200 alarms a week on 10,000 GPUs.
   */
  false_alarms_per_gpu_week: v.optional(
    v.pipe(
      v.number('must be a number'),
      v.minValue(1e-6, 'must be at least 1e-6'),
      v.maxValue(100, 'must be at most 100'),
    ),
    0.02,
  ),
  /** An incident is over when nothing unusual was seen for so long. */
  quiet: v.optional(duration(60_000, 86_400_000), '15m'),
  /**
   * `frozen: false` switches a detector off, whoever brings its findings. `row` (PCA residual) and `isolation` (isolation
   * forest) are off unless they are `true`: on simulated nodes they found little that the others did not.
   */
  detectors: v.optional(
    v.record(
      v.picklist(DETECTOR_NAMES, `must be one of ${DETECTOR_NAMES.join(', ')}`),
      v.boolean('must be true or false'),
    ),
    {},
  ),
  /** By canonical metric. */
  metrics: v.optional(
    v.pipe(v.record(v.string(), metric), v.maxEntries(MAX_METRICS, `must be at most ${MAX_METRICS} metrics`)),
    {},
  ),
});

export type DetectionSettings = v.InferOutput<typeof detectionSettings>;

export function defaultDetectionSettings(): DetectionSettings {
  return v.parse(detectionSettings, {});
}
