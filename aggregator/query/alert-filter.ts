import { type Alert, AlertState, type Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** Empty fields match everything. */
export interface AlertFilter {
  readonly states?: readonly AlertState[];
  readonly node?: string;
  readonly gpuUuid?: string;
  readonly rule?: string;
  readonly minSeverity?: Severity;
}

export function matchesAlert(
  alert: Alert,
  { states = [], node = '', gpuUuid = '', rule = '', minSeverity = 0 }: AlertFilter,
): boolean {
  return (
    (states.length === 0 || states.includes(alert.state)) &&
    (node === '' || alert.node === node) &&
    (gpuUuid === '' || alert.gpuUuid === gpuUuid) &&
    (rule === '' || alert.rule === rule) &&
    alert.severity >= minSeverity
  );
}

/** The alerts that match, in the order of pages: by id. */
export function filterAlerts(alerts: Iterable<Alert>, filter: AlertFilter): Alert[] {
  return [...alerts].filter((alert) => matchesAlert(alert, filter)).sort((a, b) => (a.id < b.id ? -1 : 1));
}

export const ACTIVE: readonly AlertState[] = [AlertState.PENDING, AlertState.FIRING];

/** A value of an enum by its short or full name (`firing`, `ALERT_STATE_FIRING`). Throws `invalid_input`. */
export function enumValue<Value extends number>(
  values: Record<string, string | number>,
  text: string,
  parameter: string,
): Value {
  const value = values[text.toUpperCase().replace(/^[A-Z]+_STATE_|^SEVERITY_/, '')];
  if (typeof value === 'number' && value > 0) return value as Value;
  const names = Object.entries(values).flatMap(([name, number]) =>
    typeof number === 'number' && number > 0 ? [name.toLowerCase()] : [],
  );
  throw new FleetError(
    'invalid_input',
    `Cannot filter: ${parameter} must be one of ${names.join(', ')}, and is "${text.slice(0, 50)}"`,
  );
}
