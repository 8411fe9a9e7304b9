/** What chronyd says of the clock. */
export interface ChronyTracking {
  readonly synchronised: boolean;
  /** How far this clock is ahead of the reference; negative where it is behind. */
  readonly offsetSeconds: number;
  /** The most that the clock can be wrong: what chrony's documentation gives as its bound. */
  readonly maxErrorSeconds: number;
}

const FIELDS = 14;
const NOT_SYNCHRONISED = 'Not synchronised';
/** Every other word for the leap status; a line that was cut off in it has none of them. */
const SYNCHRONISED = new Set(['Normal', 'Insert second', 'Delete second']);
const NUMBER = /^-?\d+(\.\d+)?$/;

/**
 * The line of `chronyc -c tracking` (chronyc(1)):
 *
 *     A29FC87B,162.159.200.123,4,1700000000.123456789,-0.000020390,0.000011,0.000027,-12.104,0.001,0.015,0.0129,0.0012,64.8,Normal
 *
 * Reference id, name, stratum, reference time, system time (seconds that the clock is slow), last offset, RMS
 * offset, frequency, residual frequency, skew, root delay, root dispersion, update interval, leap status. Undefined
 * where it is something else.
 */
export function chronyTracking(text: string): ChronyTracking | undefined {
  const fields = text.split('\n', 1)[0]!.split(',');
  if (fields.length !== FIELDS) return undefined;
  const [slow, rootDelay, rootDispersion] = [fields[4]!, fields[10]!, fields[11]!];
  if (![slow, rootDelay, rootDispersion].every((field) => NUMBER.test(field))) return undefined;
  const leap = fields[13]!;
  if (leap !== NOT_SYNCHRONISED && !SYNCHRONISED.has(leap)) return undefined;
  return {
    synchronised: leap !== NOT_SYNCHRONISED,
    offsetSeconds: -Number(slow),
    maxErrorSeconds: Math.abs(Number(slow)) + Number(rootDispersion) + Number(rootDelay) / 2,
  };
}
