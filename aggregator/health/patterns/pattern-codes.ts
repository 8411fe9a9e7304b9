import { xidNamed } from '#shared/catalogue/xid.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { PatternEvent } from './event-journal.ts';
import type { LemonSignal } from './lemons.ts';

/** Good news, and news that is about the product or the job. */
const NO_NEWS = new Set([
  'job_change',
  'config_reload',
  'collection_pause',
  'kernel_log_gap',
  'link_up',
  'gpu_back',
  'operator_clear',
  'recovery_action',
  'oom_kill',
]);

/** The code that patterns know an event by; undefined where it is no sign of a fault. */
export function codeOfEvent({ type, attributes }: FleetEvent): string | undefined {
  if (NO_NEWS.has(type) || attributes.phase === 'over') return undefined;
  if (type === 'xid' || type === 'sxid') return `${type} ${attributes.code ?? 'unknown'}`;
  if (type === 'ras') return `ras ${attributes.block ?? attributes.class ?? 'unknown'}`;
  if (type === 'diagnostic') return attributes.result === 'fail' ? 'diagnostic failed' : undefined;
  return type;
}

/** For people: the Xid's number with its name. */
export function codeWords(code: string): string {
  const xid = xidOf(code);
  return xid === undefined ? code.replaceAll('_', ' ') : `Xid ${xid} (${xidNamed(xid).name})`;
}

/** An Xid that an application causes: they are 96 % of Summit's, and follow the hours of people. */
export function isOfApplication(code: string): boolean {
  const xid = xidOf(code);
  return xid !== undefined && xidNamed(xid).severity === 'info';
}

/** What it says about a node that must be dealt with. */
export function lemonSignalOf({ code }: PatternEvent): LemonSignal | undefined {
  if (code.startsWith('node ')) return code.slice(5) as LemonSignal;
  if (code === 'diagnostic failed') return 'failed_diagnostic';
  if (code === 'gpu_lost' || code === 'state critical') return 'critical';
  const xid = xidOf(code);
  if (xid === undefined) return undefined;
  const { severity } = xidNamed(xid);
  return severity === 'critical' || severity === 'error' ? 'hardware_xid' : undefined;
}

function xidOf(code: string): number | undefined {
  const match = /^xid (\d+)$/.exec(code);
  return match === null ? undefined : Number(match[1]);
}
