import * as v from 'valibot';

const UNITS_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const UNITS_BYTES: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** `500ms`, `1s`, `1m30s`, `24h`, `7d` in milliseconds, or undefined. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|s|m|h|d)/g))
    total += Number(number) * UNITS_MS[unit!]!;
  return total;
}

/** `512MiB`, `2GiB`, or a plain number of bytes; or undefined. */
export function parseBytes(text: string | number): number | undefined {
  if (typeof text === 'number') return Number.isSafeInteger(text) && text >= 0 ? text : undefined;
  const match = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)$/.exec(text);
  return match ? Math.floor(Number(match[1]) * UNITS_BYTES[match[2]!]!) : undefined;
}

/** A duration between two bounds, parsed to milliseconds. */
export function duration(minMs: number, maxMs: number) {
  return v.pipe(
    v.union([v.string(), v.number()], 'must be a duration such as 500ms, 10s, 5m, 24h'),
    v.rawTransform<string | number, number>(({ dataset, addIssue, NEVER }) => {
      const ms = typeof dataset.value === 'string' ? parseDuration(dataset.value) : undefined;
      if (ms === undefined) {
        addIssue({
          message: `must be a duration such as 500ms, 10s, 5m, 24h, and is ${JSON.stringify(dataset.value)}`,
        });
        return NEVER;
      }
      if (ms < minMs || ms > maxMs) {
        addIssue({
          message: `must be between ${showDuration(minMs)} and ${showDuration(maxMs)}, and is ${dataset.value}`,
        });
        return NEVER;
      }
      return ms;
    }),
  );
}

export function bytes(min: number, max: number) {
  return v.pipe(
    v.union([v.string(), v.number()], 'must be a size such as 512MiB or 2GiB'),
    v.rawTransform<string | number, number>(({ dataset, addIssue, NEVER }) => {
      const size = parseBytes(dataset.value);
      if (size === undefined || size < min || size > max) {
        addIssue({
          message: `must be a size from ${min} to ${max} bytes, such as 512MiB, and is ${JSON.stringify(dataset.value)}`,
        });
        return NEVER;
      }
      return size;
    }),
  );
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, `[::1]:port` or `:port` (loopback); or undefined. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) return undefined;
  return { host: match[1] || match[2] || '127.0.0.1', port };
}

export function showAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export const address = v.pipe(
  v.string('must be host:port'),
  v.rawTransform<string, Address>(({ dataset, addIssue, NEVER }) => {
    const parsed = parseAddress(dataset.value);
    if (parsed) return parsed;
    addIssue({ message: `must be host:port, and is ${JSON.stringify(dataset.value)}` });
    return NEVER;
  }),
);

export const httpUrl = v.pipe(
  v.string('must be a URL'),
  v.check(
    (text) => URL.canParse(text) && ['http:', 'https:'].includes(new URL(text).protocol),
    'must be an http:// or https:// URL',
  ),
);

/** A label value of the identity: short, printable, not empty. */
export const identityName = v.pipe(
  v.string('must be text'),
  v.regex(/^[\x21-\x7e]{1,253}$/, 'must be 1 to 253 printable ASCII characters without spaces'),
);

export const externalLabels = v.pipe(
  v.record(
    v.pipe(v.string(), v.regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/, 'is not a label name')),
    v.pipe(
      v.string('must be text'),
      v.minLength(1, 'must not be empty'),
      v.maxLength(1024, 'must be at most 1024 characters'),
    ),
  ),
  v.check((labels) => Object.keys(labels).length <= 12, 'must be at most 12 labels'),
  v.check(
    (labels) => !Object.keys(labels).some((name) => RESERVED_LABELS.has(name) || name.startsWith('__')),
    'must not set cluster, node, gpu, uuid, model or a name that begins with __',
  ),
);

const RESERVED_LABELS = new Set(['cluster', 'node', 'gpu', 'uuid', 'model']);

function showDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    if (ms >= UNITS_MS[unit]! && ms % UNITS_MS[unit]! === 0) return `${ms / UNITS_MS[unit]!}${unit}`;
  }
  return `${ms}ms`;
}
