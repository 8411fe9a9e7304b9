import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';

const fault = v.strictObject({
  /** Seconds after the start. */
  at: v.pipe(v.number('must be seconds'), v.minValue(0, 'must not be negative')),
  gpu: v.pipe(v.number('must be a GPU index'), v.integer(), v.minValue(0), v.maxValue(63)),
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
  model: v.optional(v.picklist(['A100', 'H100', 'H200'], 'must be A100, H100 or H200'), 'H100'),
  /** The same seed makes the same fleet. */
  seed: v.optional(v.pipe(v.number('must be a number'), v.integer(), v.minValue(0)), 1),
  faults: v.optional(v.pipe(v.array(fault), v.maxLength(1000)), []),
  /** Random mild faults, each GPU and hour. */
  fault_rate: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100)), 0),
});

export type SimulatedSettings = v.InferOutput<typeof simulatedSettings>;
