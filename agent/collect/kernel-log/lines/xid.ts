import { registerVerdict } from '#shared/catalogue/nvlink-registers.ts';
import { nvlink5Verdict } from '#shared/catalogue/nvlink5.ts';
import { worse } from '#shared/catalogue/xid.ts';
import { normalPci } from '../../gpu-identity.ts';
import { details, type Finding } from '../finding.ts';
import { PCI_PATTERN } from '../pci-address.ts';
import type { Verdicts } from '../verdicts.ts';
import { recoveryAction } from './recovery-action.ts';

const XID = new RegExp(`NVRM: Xid \\((?:PCI:)?(${PCI_PATTERN})\\): ([1-9]\\d{0,4})(?=[,\\s]|$)`);
const PID = /\bpid=(\d{1,10})(?=[,\s]|$)/;
const PROCESS = /, name=([^,<]{1,64})(?:,|$)/;
const CHANNEL = /\bCh(?:annel(?: ID)?|ID|Id)? (?:0x)?([0-9a-f]{2,8})(?=[,.\s]|$)/;
const PLACE = /\(GPC (\d+), TPC (\d+), SM (\d+)\)/;
const NVLINK5 =
  /, ([A-Z][A-Z0-9_]+(?:\/[A-Z0-9_]+)?)\s+(Fatal|Non-?fatal)\s+XC\d+ i\d+(?: Link (-?\d+))?(?: \(((?:0x[0-9a-f]{8} ?){2,})(?=\)|\.\.\.))?/;
const REGISTERS = /error detected on link (\d+)\s*\(((?:0x[0-9a-f]{1,8}(?:, )?){7})\)/;

/** The highest code of NVIDIA's catalogue is 173; five digits that are more than this are no code. */
const MAX_CODE = 65_535;
const NVLINK_4 = 74;
const RECOVERY_ACTION = 154;

/**
 *     NVRM: Xid (PCI:0000:91:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
 *     NVRM: Xid (PCI:0000:b3:00.0): 79
 *     NVRM: Xid (0000:03:00): 14, Channel 00000001
 *     NVRM: Xid (PCI:0000:b5:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp Exception on (GPC 1, TPC 3, SM 0): Out Of Range Address
 *     NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 09 (0x025525c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)
 *     NVRM: Xid (PCI:0003:00:00): 74, pid='<unknown>', name=<unknown>, NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)
 *
 * `malformed` for a line that says Xid and cannot be read.
 */
export function readXid(text: string, verdicts: Verdicts): Finding | 'malformed' | undefined {
  const at = text.indexOf('NVRM: Xid ');
  if (at < 0) return undefined;
  const line = XID.exec(text);
  const code = Number(line?.[2]);
  const pci = normalPci(line?.[1] ?? '');
  if (line === null || pci === undefined || code < 1 || code > MAX_CODE) return 'malformed';
  const rest = text.slice(line.index + line[0].length);
  const counter = { name: 'gpu_xid_errors_total', labels: { xid: String(code) } };
  const said = {
    pid: PID.exec(rest)?.[1],
    process: PROCESS.exec(rest)?.[1],
    ...(code === NVLINK_4 ? registers(rest) : {}),
    ...nvlink5Details(code, rest),
    ...place(rest),
    channel: CHANNEL.exec(rest)?.[1],
  };
  const known = verdicts.xid(code);
  if (code === RECOVERY_ACTION) return { ...recoveryAction(rest, known), pci, counter };
  return {
    type: 'xid',
    code: String(code),
    pci,
    counter,
    name: known.name,
    ...(known.overridden ? known : decoded(code, rest, known)),
    details: details(said),
  };
}

type Judged = Pick<Finding, 'severity' | 'action' | 'reason'>;

/** The line's own words say more than its code where it has any. */
function decoded(code: number, rest: string, { severity, action, reason = '' }: Judged): Judged {
  const words = nvlink5(code, rest);
  if (words !== undefined) return { ...nvlink5Verdict(words), reason };
  const bits = code === NVLINK_4 ? registerBits(rest) : undefined;
  if (bits === undefined) return { severity, action, reason };
  const fatal = rest.includes('fatal error') ? 'error' : 'info';
  return { severity: worse(bits.severity, fatal), action: bits.action, reason };
}

function nvlink5(code: number, rest: string) {
  const line = code >= 144 && code <= 150 ? NVLINK5.exec(rest) : null;
  if (line === null) return undefined;
  const [, unit = '', word, link, hex = ''] = line;
  const [intrInfo, errorStatus] = hex.split(' ').filter(Boolean).map(Number);
  return { xid: code, unit, fatal: word === 'Fatal', link, intrInfo, errorStatus };
}

function nvlink5Details(code: number, rest: string): Record<string, string | undefined> {
  const words = nvlink5(code, rest);
  if (words === undefined) return {};
  return { unit: words.unit, link: words.link, investigate: nvlink5Verdict(words).investigate };
}

function registers(rest: string): Record<string, string | undefined> {
  return { link: REGISTERS.exec(rest)?.[1], bits: registerBits(rest)?.bits };
}

function registerBits(rest: string) {
  const words = REGISTERS.exec(rest)?.[2];
  return words === undefined ? undefined : registerVerdict(words.split(', ').map(Number));
}

/** Where the same place fails again it is hardware, else a program. */
function place(rest: string): Record<string, string> {
  const [, gpc, tpc, sm] = PLACE.exec(rest) ?? [];
  return gpc === undefined || tpc === undefined || sm === undefined ? {} : { gpc, tpc, sm };
}
