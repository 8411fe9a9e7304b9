import { createHash } from 'node:crypto';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** What happened, as the one who did it says it. */
export interface AuditFact {
  /** Unix milliseconds. */
  readonly atMs: number;
  /** A person by the name of the token, a policy, or the product itself. */
  readonly who: string;
  /** Such as silence.set, alert.ack, action.step. */
  readonly what: string;
  readonly why: string;
  readonly cluster: string;
  readonly node: string;
  readonly gpu: string;
  /** Id of the action, silence or alert. */
  readonly subject: string;
  /** JSON; left out where there is none. */
  readonly before?: unknown;
  readonly after?: unknown;
  /** done, already, dry_run, retry, failed, refused. */
  readonly result: string;
}

export interface AuditEntry extends AuditFact {
  /** Ids sort by time, then by shard: `<13 digits of Unix ms>-<shard>-<10 digits of seq>`. */
  readonly id: string;
  readonly shard: string;
}

/** An entry with its place in its shard's log. */
export interface ChainedEntry extends AuditEntry {
  /** Counts from 1 in each shard. */
  readonly seq: number;
  /** Of the entry before it; empty for the first. */
  readonly previous: string;
  /** SHA-256, hex, over everything else. */
  readonly hash: string;
}

const MAX_TEXT = 1_000;
/** Of `before` and `after` each, as JSON: an executor's facts are at most 8 KiB. */
const MAX_FACTS_BYTES = 16 * 1024;
const SEQ_DIGITS = 10;

/** `idMs` never goes back within a shard, whatever the clock does. */
export function chain(
  fact: AuditFact,
  place: { readonly shard: string; readonly seq: number; readonly idMs: number; readonly previous: string },
): ChainedEntry {
  const { shard, seq, idMs, previous } = place;
  const unsealed = {
    id: `${String(idMs).padStart(13, '0')}-${shard}-${String(seq).padStart(SEQ_DIGITS, '0')}`,
    atMs: fact.atMs,
    who: cut(fact.who),
    what: cut(fact.what),
    why: cut(fact.why),
    cluster: cut(fact.cluster),
    node: cut(fact.node),
    gpu: cut(fact.gpu),
    subject: cut(fact.subject),
    ...facts('before', fact.before),
    ...facts('after', fact.after),
    result: cut(fact.result),
    shard,
    seq,
    previous,
  };
  return { ...unsealed, hash: hashOf(unsealed) };
}

export function hashOf(entry: Omit<ChainedEntry, 'hash'>): string {
  return createHash('sha256')
    .update(canonical({ ...entry, hash: undefined }))
    .digest('hex');
}

/** What is shown of an entry. */
export function shown({ seq, previous, hash, ...entry }: ChainedEntry): AuditEntry {
  return entry;
}

/** JSON with sorted names: the same for the same entry, whoever wrote it down in between. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** As it will be read back; what is too large becomes a note of its size, for an entry must not be lost for it. */
function facts(name: 'before' | 'after', value: unknown): { before?: unknown; after?: unknown } {
  if (value === undefined) return {};
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new FleetError('invalid_input', `Cannot audit: ${name} is not JSON`);
  const bytes = Buffer.byteLength(text);
  return { [name]: bytes > MAX_FACTS_BYTES ? { too_large_bytes: bytes } : (JSON.parse(text) as unknown) };
}

function cut(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed();
}
