import type { XidSeverity } from '#shared/catalogue/xid.ts';
import { normalPci } from '../../gpu-identity.ts';
import { details, type Finding } from '../finding.ts';
import { PCI_PATTERN } from '../pci-address.ts';

const BUS_ERROR = new RegExp(
  `(${PCI_PATTERN}): (?:AER: )?PCIe Bus Error: severity=([A-Za-z ]+?(?: \\([A-Za-z-]+\\))?), type=([A-Za-z ]+)`,
);
const STATUS = new RegExp(`(${PCI_PATTERN}): AER: aer_(uncor_|cor_)?status: (0x[0-9a-f]{8})`);
const SLOT = new RegExp(
  `(${PCI_PATTERN})(?:: |:pcie\\d+: )pciehp: Slot\\(([\\w-]+)\\): (Link Down|Card not present)`,
);
const DPC = new RegExp(`(${PCI_PATTERN}): (?:DPC: containment event|EDR: EDR event)`);

const DRAIN = 'drain the node; check slot, riser and cables';

/**
 *     pcieport 0000:00:1c.5: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)
 *     nvidia 0000:3b:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)
 *     pcieport 0000:40:01.1: AER: aer_status: 0x00004000, aer_mask: 0x00000000
 *     pcieport 0000:40:01.1: DPC: containment event, status:0x1f01 source:0x0000
 *     pcieport 0000:00:01.0: pciehp: Slot(19): Link Down
 *
 * The line `AER: Corrected error received: 0000:00:1c.5` before the first is about the same error: it is not counted.
 */
export function readPcie(text: string): Finding | undefined {
  if (text.includes('PCIe Bus Error')) return busError(text);
  if (text.includes('AER: aer_')) return status(text);
  if (text.includes('pciehp: Slot')) return slot(text);
  if (text.includes('DPC: containment') || text.includes('EDR event')) return containment(text);
  return undefined;
}

function busError(text: string): Finding | undefined {
  const [, address = '', said = '', layer = ''] = BUS_ERROR.exec(text) ?? [];
  const pci = normalPci(address);
  if (pci === undefined) return undefined;
  const kind = layer.trim().toLowerCase().replaceAll(' ', '_');
  return aerFinding(pci, severityOf(said), kind);
}

function severityOf(said: string): string {
  if (said.startsWith('Corrected') || said.startsWith('Correctable')) return 'corrected';
  return said.includes('Non-Fatal') ? 'uncorrected_nonfatal' : 'uncorrected_fatal';
}

function status(text: string): Finding | undefined {
  const [, address = '', which = '', word] = STATUS.exec(text) ?? [];
  const pci = normalPci(address);
  if (pci === undefined) return undefined;
  const severity = which === 'cor_' ? 'corrected' : which === 'uncor_' ? 'uncorrected_nonfatal' : 'unknown';
  return aerFinding(pci, severity, 'status', { status: word });
}

/** Also for a PCIe section that the firmware reports: see HardwareErrors. */
export function aerFinding(
  pci: string,
  severity: string,
  kind: string,
  said: Record<string, string | undefined> = {},
): Finding {
  const ours: XidSeverity =
    severity === 'corrected' ? 'info' : severity === 'uncorrected_fatal' ? 'critical' : 'warning';
  return {
    type: 'pcie_aer',
    code: severity,
    name: `PCIe error, ${severity.replace('_', ', ')}`,
    severity: ours,
    action:
      ours === 'info'
        ? 'watch the rate'
        : ours === 'critical'
          ? DRAIN
          : 'watch; check slot and riser if it repeats',
    pci,
    what: kind,
    details: details({ kind, ...said }),
    counter: { name: 'pcie_aer_errors_total', labels: { device: pci, kind, severity } },
  };
}

function slot(text: string): Finding | undefined {
  const [, address = '', name, what = ''] = SLOT.exec(text) ?? [];
  const pci = normalPci(address);
  if (pci === undefined) return undefined;
  const code = what.toLowerCase().replaceAll(' ', '_');
  return {
    type: 'pcie_aer',
    code,
    name: `PCIe slot: ${what.toLowerCase()}`,
    severity: 'critical',
    action: DRAIN,
    pci,
    details: details({ slot: name }),
  };
}

function containment(text: string): Finding | undefined {
  const pci = normalPci(DPC.exec(text)?.[1] ?? '');
  if (pci === undefined) return undefined;
  return {
    type: 'pcie_aer',
    code: 'dpc',
    name: 'PCIe port contained an error: its link is down',
    severity: 'critical',
    action: DRAIN,
    pci,
  };
}
