import * as v from 'valibot';
import { type GpuEntry, MAX_LIST, MAX_REPAIRS, type NodeEntry, type Repair } from './asset.ts';

const DAY_MS = 86_400_000;

/** A label value: it becomes one of series, events and alerts. */
const label = v.pipe(
  v.union([v.string(), v.number()], 'must be a text'),
  v.transform(String),
  v.regex(/^[^\p{Cc}]{1,128}$/u, 'must be 1 to 128 characters without control characters'),
);
/** Names and globs: * is any run of characters, ? is one. */
const name = v.pipe(
  v.union([v.string(), v.number()], 'must be a name'),
  v.transform(String),
  v.regex(/^[\x21-\x7e]{1,253}$/, 'must be 1 to 253 printable ASCII characters without spaces'),
);
const list = v.pipe(
  v.union([v.array(label, 'must be a text or a list of texts'), label], 'must be a text or a list of texts'),
  v.transform((one) => (typeof one === 'string' ? [one] : one)),
  v.maxLength(MAX_LIST, `must be at most ${MAX_LIST}`),
);
const day = v.pipe(
  v.string('must be a day such as 2025-03-31'),
  v.check((text) => dayOf(text) !== undefined, 'must be a day such as 2025-03-31'),
  v.transform((text) => dayOf(text)!),
);
const index = v.pipe(
  v.union([v.string(), v.number()], 'must be the index of a GPU'),
  v.transform(String),
  v.regex(/^\d{1,4}$/, 'must be the index of a GPU'),
);

const repair = v.strictObject({ date: day, what: label });

/** One entry under `nodes`. */
export const nodeSchema = v.pipe(
  v.strictObject({
    node: name,
    cluster: v.optional(name),
    pool: v.optional(label),
    rack: v.optional(label),
    pdu: v.exactOptional(list),
    cooling_zone: v.optional(label),
    switches: v.exactOptional(list),
    row: v.optional(label),
    datacenter: v.optional(label),
  }),
  v.transform(
    ({ node, cluster, cooling_zone: coolingZone, ...rest }): NodeEntry => ({
      node,
      cluster,
      ...rest,
      ...(coolingZone === undefined ? {} : { coolingZone }),
    }),
  ),
);

/** One entry under `gpus`. */
export const gpuSchema = v.pipe(
  v.strictObject({
    uuid: v.optional(label),
    serial: v.optional(label),
    cluster: v.optional(name),
    node: v.optional(name),
    gpu: v.optional(index),
    purchased: v.optional(day),
    warranty_end: v.optional(day),
    firmware: v.optional(label),
    repairs: v.optional(
      v.pipe(
        v.array(repair, 'must be a list of repairs'),
        v.maxLength(MAX_REPAIRS, `must be at most ${MAX_REPAIRS}`),
      ),
      [],
    ),
  }),
  v.check(
    ({ uuid, serial, node, gpu }) =>
      uuid !== undefined || serial !== undefined || (node !== undefined && gpu !== undefined),
    'must have a uuid, a serial, or node and gpu',
  ),
  v.check(({ node }) => node === undefined || !/[*?]/.test(node), 'must name one node: no * and ?'),
  v.transform(
    ({ purchased, warranty_end: end, repairs, uuid, serial, cluster, node, gpu, firmware }): GpuEntry => ({
      uuid,
      serial,
      cluster,
      node,
      gpu,
      firmware,
      purchasedMs: purchased,
      warrantyEndMs: end === undefined ? undefined : end + DAY_MS - 1,
      repairs: repairs
        .map(({ date, what }): Repair => ({ atMs: date, what }))
        .sort((a, b) => a.atMs - b.atMs),
    }),
  ),
);

function dayOf(text: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return undefined;
  const ms = Date.parse(`${text}T00:00:00Z`);
  // 31 February is rolled over by some engines and refused by others.
  return Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(text) ? undefined : ms;
}

/** Words for one issue. */
export function issueWords(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object' && issue.expected === 'never') return 'there is no such field';
  if (issue.type === 'strict_object' && issue.path === undefined) return 'must be fields with their values';
  if (issue.type === 'strict_object') return 'it is missing';
  return issue.message;
}
