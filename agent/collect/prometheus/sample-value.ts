const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,5})?$/;
const SPECIAL: ReadonlyMap<string, number> = new Map([
  ['nan', Number.NaN],
  ['inf', Number.POSITIVE_INFINITY],
  ['infinity', Number.POSITIVE_INFINITY],
]);

/** The value of a token such as `67.433000`, `9.2e+18`, `+Inf`, `NaN`; undefined where it is none. */
export function parseValue(token: string): number | undefined {
  if (DECIMAL.test(token)) return Number(token);
  const sign = token[0] === '-' || token[0] === '+' ? token[0] : '';
  const special = SPECIAL.get(token.slice(sign.length).toLowerCase());
  if (special === undefined) return undefined;
  return sign === '-' ? -special : special;
}

/** How many decimals a token was printed with: 6 for `67.433000` and for `1.5e-05`, at most `most`. */
export function printedDecimals(token: string, most: number): number {
  const [mantissa = '', exponent = '0'] = token.toLowerCase().split('e');
  const point = mantissa.indexOf('.');
  const decimals = (point === -1 ? 0 : mantissa.length - point - 1) - Number(exponent);
  return Number.isFinite(decimals) ? Math.min(Math.max(decimals, 0), most) : 0;
}

/** Powers of ten that float64 holds exactly. */
const POWERS = Float64Array.from({ length: 23 }, (_, n) => 10 ** n);
/** Digits of which every number is an exact integer in float64. */
const EXACT_DIGITS = 15;

/**
 * Reads a plain decimal (sign, digits, point, digits) that ends at a line end or the end of the body into
 * `values[at]`, and returns where it ends; -1 for anything else, which parseValue is there for.
 *
 * Exact: at most 15 digits are an integer that float64 holds, and so is the power of ten; one division of two
 * exact numbers is rounded once, which is the float64 nearest to the decimal (Clinger's fast path). More digits,
 * exponents, NaN and the rest take the slow way.
 */
export function readDecimal(body: Uint8Array, from: number, values: Float64Array, at: number): number {
  let pos = from;
  let byte = body[pos];
  const negative = byte === 0x2d;
  if (negative) byte = body[++pos];
  let mantissa = 0;
  let digits = 0;
  let decimals = -1;
  for (;;) {
    // Past the end the byte is undefined: neither a digit nor a point.
    if (byte !== undefined && byte >= 0x30 && byte <= 0x39) {
      mantissa = mantissa * 10 + (byte - 0x30);
      digits++;
      if (decimals >= 0) decimals++;
    } else if (byte === 0x2e && decimals < 0) {
      decimals = 0;
    } else {
      break;
    }
    byte = body[++pos];
  }
  if (byte === 0x0d) byte = body[++pos];
  if (digits === 0 || digits > EXACT_DIGITS || (byte !== 0x0a && byte !== undefined)) return -1;
  const value = decimals > 0 ? mantissa / POWERS[decimals]! : mantissa;
  values[at] = negative ? -value : value;
  return pos;
}
