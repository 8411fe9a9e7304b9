import type { XidSeverity } from '#shared/catalogue/xid.ts';
import { details, type Finding } from '../finding.ts';
import type { Verdict } from '../verdicts.ts';

const CHANGED =
  /recovery action changed from 0x([0-9a-f]{1,2}) \(([^)]{1,64})\) to 0x([0-9a-f]{1,2}) \(([^)]{1,64})\)/i;

/** NVML's nvmlDeviceRecoveryAction, field 1523 of DCGM: what the driver asks for. */
const ACTIONS: readonly (readonly [severity: XidSeverity, action: string])[] = [
  ['info', 'none'],
  ['error', 'reset the GPU'],
  ['critical', 'reboot the node'],
  ['warning', 'drain the peers of the GPU'],
  ['critical', 'drain the node and reset the GPU'],
];

/**
 * The rest of an Xid 154:
 *
 *     , GPU recovery action changed from 0x4 (Drain and Reset) to 0x1 (GPU Reset Required)
 *
 * Cut before its end it says only that something changed.
 */
export function recoveryAction(rest: string, known: Verdict): Omit<Finding, 'pci' | 'counter'> {
  const [, from, , to, words] = CHANGED.exec(rest) ?? [];
  const asked = to === undefined ? undefined : ACTIONS[Number.parseInt(to, 16)];
  const said = details({
    from: from === undefined ? undefined : String(Number.parseInt(from, 16)),
    to: to === undefined ? undefined : String(Number.parseInt(to, 16)),
    words,
  });
  const base = {
    type: 'recovery_action',
    code: '154',
    name: known.name,
    reason: known.reason,
    details: said,
  } as const;
  if (asked === undefined) return { ...base, severity: known.severity, action: known.action };
  const [severity, action] = asked;
  // Two changes that follow each other quickly are two pieces of news.
  return { ...base, severity, action, asks: action, what: `${from} to ${to}` };
}
