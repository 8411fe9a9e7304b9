import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { sxidNamed } from '#shared/catalogue/sxid.ts';
import { SEVERITIES, type XidSeverity, xidNamed } from '#shared/catalogue/xid.ts';
import { configError } from '#shared/config/load-config.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** A verdict on a code. */
export interface Verdict {
  readonly name: string;
  readonly severity: XidSeverity;
  readonly action: string;
  readonly reason: string;
  /** This site says so, not the catalogue. */
  readonly overridden: boolean;
}

export interface Verdicts {
  xid(code: number): Verdict;
  sxid(code: number, fatal: boolean): Verdict;
}

const MAX_BYTES = 256 * 1024;
const SHORT = v.pipe(
  v.string('must be text'),
  v.minLength(1, 'must not be empty'),
  v.maxLength(200, 'must be at most 200 characters'),
);

const overrideSchema = v.strictObject({
  name: v.optional(SHORT),
  severity: v.optional(v.picklist(SEVERITIES, `must be ${SEVERITIES.join(', ')}`)),
  action: v.optional(SHORT),
  reason: v.optional(SHORT),
});
const codesSchema = v.optional(
  v.record(
    v.pipe(v.string(), v.regex(/^[1-9]\d{0,4}$/, 'is not a code')),
    overrideSchema,
    'must be a map of codes',
  ),
  {},
);
const fileSchema = v.strictObject({ xid: codesSchema, sxid: codesSchema }, 'must be a map with xid and sxid');
type Overrides = v.InferOutput<typeof fileSchema>;

/** The catalogue's verdicts. */
export const catalogueVerdicts: Verdicts = verdictsOf({ xid: {}, sxid: {} });

/**
 * The catalogue's verdicts with those of a site's file over them:
 *
 *     xid:
 *       63: { severity: info, action: none, reason: we reset all nodes on Sundays }
 *     sxid:
 *       20009: { severity: error }
 *
 * What an entry leaves out stays as the catalogue has it. The driver's own verdict (Xid 154) still goes first.
 * Throws `invalid_config` naming file, line and path of each fault.
 */
export function readVerdicts(path: string): Verdicts {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read ${path}`, { cause: error });
  }
  return verdictsOf(parseOverrides(text, path));
}

/** Exported for tests: `source` names the file in errors. */
export function parseOverrides(text: string, source: string): Overrides {
  if (text.length > MAX_BYTES)
    throw new FleetError('invalid_config', `Cannot use ${source}: it is larger than ${MAX_BYTES} bytes`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number | undefined): string =>
    offset === undefined ? '' : `line ${lines.linePos(offset).line}, `;
  if (document.errors.length > 0)
    throw configError(
      source,
      document.errors.map(({ message, pos }) => ({ path: `${at(pos[0])}yaml`, message })),
    );
  const result = v.safeParse(fileSchema, toPlain(document, source));
  if (result.success) return result.output;
  throw configError(
    source,
    result.issues.map((issue) => {
      const keys = (issue.path ?? []).map(({ key }) => String(key));
      const message = issue.expected === 'never' ? 'there is no such setting' : issue.message;
      return { path: `${at(offsetOf(document, keys))}${keys.join('.') || '(top level)'}`, message };
    }),
  );
}

function toPlain(document: ReturnType<typeof parseDocument>, source: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 10 }) ?? {};
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot use ${source}`, { cause: error });
  }
}

/** Codes are numbers in YAML and text in what was parsed. */
function offsetOf(document: ReturnType<typeof parseDocument>, keys: readonly string[]): number | undefined {
  for (let length = keys.length; length > 0; length--) {
    const path = keys.slice(0, length).map((key) => (/^\d+$/.test(key) ? Number(key) : key));
    const node = document.getIn(path, true);
    if (isNode(node)) return node.range?.[0];
  }
  return undefined;
}

function verdictsOf({ xid, sxid }: Overrides): Verdicts {
  return {
    xid: (code) => over(xidNamed(code), xid[String(code)]),
    sxid: (code, fatal) => over(sxidNamed(code, fatal), sxid[String(code)]),
  };
}

type Named = Omit<Verdict, 'overridden'>;

function over(
  { name, severity, action, reason }: Named,
  ours: Overrides['xid'][string] | undefined,
): Verdict {
  if (ours === undefined) return { name, severity, action, reason, overridden: false };
  return {
    name: ours.name ?? name,
    severity: ours.severity ?? severity,
    action: ours.action ?? action,
    reason: ours.reason ?? 'a rule of this site',
    overridden: true,
  };
}
