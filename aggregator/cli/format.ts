import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { type Gpu, NodeState, SampleState } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthDimension, HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';

/** What is not known is a dash, never a zero. */
export const UNKNOWN = '-';

export const nodeState = namesOf(NodeState);
export const alertState = namesOf(AlertState);
export const severity = namesOf(Severity);
export const healthState = namesOf(HealthState);
export const healthDimension = namesOf(HealthDimension);
export const sampleState = namesOf(SampleState);

/** The name of an enum's value in small letters; `unknown` for one that is not set or of a later version. */
export function namesOf(values: Readonly<Record<string, number>>): (value: number | undefined) => string {
  const names = new Map(Object.entries(values).map(([name, value]) => [value, name.toLowerCase()]));
  return (value = 0) => (value === 0 ? 'unknown' : (names.get(value) ?? 'unknown'));
}

export function number(value: number | undefined, digits = 0): string {
  return value === undefined ? UNKNOWN : value.toFixed(digits);
}

/** `12s`, `3m`, `5h`, `2d` ago. */
export function age(time: Timestamp | undefined, nowMs: number): string {
  if (time === undefined) return UNKNOWN;
  const seconds = Math.max(0, Math.round((nowMs - timestampMs(time)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

export function score({ health }: Pick<Gpu, 'health'>): string {
  return health === undefined || health.state === HealthState.UNKNOWN ? UNKNOWN : health.score.toFixed(0);
}

export function power({ powerWatts, powerLimitWatts }: Pick<Gpu, 'powerWatts' | 'powerLimitWatts'>): string {
  return `${number(powerWatts)}/${number(powerLimitWatts)}`;
}

/** Text of others on one line: a series' label or a server's answer must not move the cursor of a terminal. */
export function plain(text: string): string {
  return text.replaceAll(/\p{C}+/gu, ' ');
}

/** As Prometheus writes them, `{sensor="core"}`; empty where there are none. */
export function labelText(labels: Readonly<Record<string, string>>): string {
  const all = Object.entries(labels);
  return all.length === 0 ? '' : `{${all.map(([name, value]) => `${name}="${value}"`).join(',')}}`;
}

const GIB = 2 ** 30;

export function memory({
  memoryUsedBytes,
  memoryTotalBytes,
}: Pick<Gpu, 'memoryUsedBytes' | 'memoryTotalBytes'>): string {
  const gib = (bytes: number | undefined): string =>
    bytes === undefined ? UNKNOWN : (bytes / GIB).toFixed(1);
  return `${gib(memoryUsedBytes)}/${gib(memoryTotalBytes)}`;
}

export function percent(ratio: number | undefined): string {
  return ratio === undefined ? UNKNOWN : (ratio * 100).toFixed(0);
}

/** The part of `total` that is used; undefined where either is not known. */
export function memoryRatio({
  memoryUsedBytes,
  memoryTotalBytes,
}: Pick<Gpu, 'memoryUsedBytes' | 'memoryTotalBytes'>): number | undefined {
  return memoryUsedBytes === undefined || !memoryTotalBytes ? undefined : memoryUsedBytes / memoryTotalBytes;
}

/** `████░░░░`; as many blanks where there is nothing to show. */
export function bar(ratio: number | undefined, width: number): string {
  if (ratio === undefined) return ' '.repeat(width);
  const filled = Math.round(Math.min(1, Math.max(0, ratio)) * width);
  return '█'.repeat(filled) + '░'.repeat(width - filled);
}

const CODES = { red: 31, green: 32, yellow: 33, grey: 90, bold: 1 } as const;
export type Colour = keyof typeof CODES;

/** Colours text, or leaves it. */
export type Paint = (colour: Colour, text: string) => string;
export const paintWith =
  (enabled: boolean): Paint =>
  (colour, text) =>
    enabled ? `\x1b[${CODES[colour]}m${text}\x1b[0m` : text;

export function healthColour(state: HealthState | undefined): Colour {
  if (state === HealthState.HEALTHY) return 'green';
  if (state === HealthState.DEGRADED || state === HealthState.FLAPPING) return 'yellow';
  return state === HealthState.CRITICAL ? 'red' : 'grey';
}

export function severityColour(value: Severity): Colour {
  return value === Severity.CRITICAL ? 'red' : value === Severity.WARNING ? 'yellow' : 'grey';
}
