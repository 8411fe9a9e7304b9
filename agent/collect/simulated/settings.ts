import * as v from 'valibot';
import { address, duration } from '#shared/config/values.ts';

const fault = v.strictObject({
  /** Seconds after the start. */
  at: v.pipe(v.number('must be seconds'), v.minValue(0, 'must not be negative')),
  /** Not needed by a fault of the node. */
  gpu: v.optional(v.pipe(v.number('must be a GPU index'), v.integer(), v.minValue(0), v.maxValue(63))),
  kind: v.pipe(v.string('must name a fault'), v.minLength(1)),
  duration: v.optional(duration(1, 86_400_000 * 30)),
  code: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000))),
});

/** collectors.simulated */
export const simulatedSettings = v.strictObject({
  /** Simulated nodes in this process, each an agent of its own. */
  nodes: v.optional(
    v.pipe(v.number('must be a number of nodes'), v.integer(), v.minValue(1), v.maxValue(1000)),
    1,
  ),
  gpus: v.optional(
    v.pipe(v.number('must be a number of GPUs'), v.integer(), v.minValue(1), v.maxValue(16)),
    8,
  ),
  model: v.optional(
    v.picklist(['A100', 'H100', 'H200', 'MI300X'], 'must be A100, H100, H200 or MI300X'),
    'H100',
  ),
  /** The same seed makes the same fleet. */
  seed: v.optional(v.pipe(v.number('must be a number'), v.integer(), v.minValue(0)), 1),
  faults: v.optional(v.pipe(v.array(fault), v.maxLength(1000)), []),
  /** Random mild faults, each GPU and hour. */
  fault_rate: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100)), 0),
  /** How work comes to the node. */
  load: v.optional(
    v.picklist(['jobs', 'steady', 'diurnal', 'bursty'], 'must be jobs, steady, diurnal or bursty'),
    'jobs',
  ),
  /** What the training job says of itself, and gpu_job_info. */
  training: v.optional(v.boolean('must be true or false'), true),
  /** Where all nodes of this process serve their dcgm-exporter page, each at /metrics/<node>; nowhere by default. */
  serve: v.optional(address),
});

export type SimulatedSettings = v.InferOutput<typeof simulatedSettings>;
