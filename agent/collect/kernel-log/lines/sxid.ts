import { normalPci } from '../../gpu-identity.ts';
import { details, type Finding } from '../finding.ts';
import { PCI_PATTERN } from '../pci-address.ts';
import type { Verdicts } from '../verdicts.ts';

const SXID = new RegExp(
  `nvidia-nvswitch(\\d{1,3}): SXid \\((?:PCI:)?(${PCI_PATTERN})\\): ([1-9]\\d{0,4}),\\s*(.*)$`,
  's',
);
/** Lines that go on with what the one before began: `Severity 1 Engine instance 60`, `Data {0x10000000, ...}`. */
const CONTINUED = /^(?:Severity \d|Data \{)|\bdata\[\d+\]/;
const LINK = /\bLink (\d{1,3})\b(?=[\s,]|$)/;

/**
 *     nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up
 *     nvidia-nvswitch0: SXid (PCI:0004:00:00.0): 26008, SOE Watchdog error
 *
 * `folded` for a line that only goes on with the one before; `malformed` for one that cannot be read.
 */
export function readSxid(text: string, verdicts: Verdicts): Finding | 'malformed' | 'folded' | undefined {
  if (!text.includes('SXid (')) return undefined;
  const line = SXID.exec(text);
  const [, nvswitch, address = '', code, rest = ''] = line ?? [];
  const pci = normalPci(address);
  if (nvswitch === undefined || pci === undefined || code === undefined) return 'malformed';
  if (CONTINUED.test(rest)) return 'folded';
  const fatal = /^Fatal\b/.test(rest);
  const said = fatal ? 'fatal' : /^Non-fatal\b/.test(rest) ? 'non_fatal' : 'unknown';
  const { name, severity, action, reason } = verdicts.sxid(Number(code), fatal);
  return {
    type: 'sxid',
    code,
    name,
    severity,
    action,
    reason,
    pci,
    details: details({ nvswitch, driver_severity: said, link: LINK.exec(rest)?.[1] }),
    counter: { name: 'nvswitch_sxid_errors_total', labels: { nvswitch, sxid: code, severity: said } },
  };
}
