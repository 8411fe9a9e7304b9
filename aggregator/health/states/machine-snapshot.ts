import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import type { MachineSnapshot } from '../state-machine.ts';
import { MAX_CHANGES } from './state-limits.ts';

const CAUSES: ReadonlySet<unknown> = new Set(['diagnostic', 'repair', 'operator', 'reload']);

/** Whether something read from disk is what `HealthStateMachine.snapshot` gave. */
export function isMachineSnapshot(value: unknown): value is MachineSnapshot {
  if (!isObject(value)) return false;
  const { state, changesMs, clearing, owesClearing } = value;
  return (
    isState(state) &&
    [value.belowDegraded, value.belowCritical, value.better].every(isWait) &&
    [value.staleSinceMs, value.pinnedUntilMs].every(isOptionalNumber) &&
    (changesMs === undefined ||
      (Array.isArray(changesMs) && changesMs.length <= MAX_CHANGES && changesMs.every(Number.isFinite))) &&
    (owesClearing === undefined || owesClearing === true) &&
    (clearing === undefined ||
      (isObject(clearing) && CAUSES.has(clearing.cause) && typeof clearing.by === 'string'))
  );
}

/** FLAPPING is a flag of a machine and never its state. */
function isState(state: unknown): boolean {
  return (
    state === HealthState.UNSPECIFIED ||
    state === HealthState.HEALTHY ||
    state === HealthState.DEGRADED ||
    state === HealthState.CRITICAL ||
    state === HealthState.UNKNOWN
  );
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isOptionalNumber(value: unknown): boolean {
  return value === undefined || Number.isFinite(value);
}

function isWait(value: unknown): boolean {
  return value === undefined || (Number.isFinite(value) && (value as number) >= 0);
}
