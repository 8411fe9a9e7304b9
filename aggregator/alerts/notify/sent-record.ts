import * as v from 'valibot';
import type { AlertGroup, GroupIdentity, Mark } from './alert-group.ts';
import type { Notification } from './notification.ts';
import { packNotification, unpackNotification } from './notification-codec.ts';

/** What was told of one group, as it is kept. */
export interface SentRecord {
  /** Rises with each record of an endpoint: the later one counts. */
  readonly n: number;
  readonly identity: GroupIdentity;
  /** Unix ms of the last notification; 0 for none. */
  readonly atMs: number;
  readonly storm: boolean;
  readonly told: ReadonlyMap<string, Mark>;
  /** It is being told, and may or may not have been when this is read after a crash. */
  readonly sending: Notification | undefined;
}

/** An alert takes 12 characters: so many stay within half a document, the notification has the other half. */
export const MAX_RECORD_ALERTS = 2_500;
const ENTRY_BYTES = 9;

const schema = v.object({
  n: v.number(),
  key: v.string(),
  labels: v.record(v.string(), v.string()),
  cluster: v.string(),
  at: v.number(),
  storm: v.optional(v.boolean(), false),
  told: v.string(),
  sending: v.optional(v.string()),
});

export function encodeRecord(record: SentRecord): unknown {
  const { n, identity, atMs, storm, told, sending } = record;
  return {
    ...{ n, key: identity.key, labels: identity.labels, cluster: identity.cluster, at: atMs },
    ...(storm && { storm }),
    told: encodeMarks(told),
    ...(sending !== undefined && { sending: packNotification(sending) }),
  };
}

/** Undefined where it is none that we can read. */
export function decodeRecord(value: unknown): SentRecord | undefined {
  const parsed = v.safeParse(schema, value);
  if (!parsed.success) return undefined;
  const { n, key, labels, cluster, at, storm, told, sending } = parsed.output;
  return {
    ...{ n, identity: { key, labels, cluster }, atMs: at, storm },
    told: decodeMarks(told),
    sending: sending === undefined ? undefined : unpackNotification(sending),
  };
}

export function recordOf(
  group: AlertGroup,
  n: number,
  change: Partial<Pick<SentRecord, 'told' | 'atMs' | 'storm' | 'sending'>> = {},
): SentRecord {
  return {
    n,
    identity: group.identity,
    atMs: change.atMs ?? group.lastMs,
    storm: change.storm ?? group.storm,
    told: change.told ?? group.told,
    sending: change.sending,
  };
}

/** Ids are 16 hex digits; one byte more for the mark. */
function encodeMarks(told: ReadonlyMap<string, Mark>): string {
  const bytes = Buffer.alloc(told.size * ENTRY_BYTES);
  let at = 0;
  for (const [id, mark] of told) {
    bytes.write(id.slice(0, 16), at, 'hex');
    bytes[at + 8] = mark;
    at += ENTRY_BYTES;
  }
  return bytes.toString('base64');
}

function decodeMarks(text: string): Map<string, Mark> {
  const bytes = Buffer.from(text, 'base64');
  const told = new Map<string, Mark>();
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES)
    told.set(bytes.toString('hex', at, at + 8), bytes[at + 8]!);
  return told;
}
