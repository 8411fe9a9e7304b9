import type { XidSeverity } from '#shared/catalogue/xid.ts';
import { normalPci } from '../../gpu-identity.ts';
import { details, type Finding } from '../finding.ts';
import { PCI_PATTERN } from '../pci-address.ts';

const LINE = new RegExp(`^(?:\\[drm\\] )?amdgpu(?: (${PCI_PATTERN}))?: (?:amdgpu: ?)?(.*)$`, 's');

interface Rule {
  readonly pattern: RegExp;
  readonly type: 'ras' | 'gpu_reset' | 'kernel_error';
  /** Of the event, and label `class` of the counter. */
  readonly code: string;
  readonly name: string;
  readonly severity: XidSeverity;
  readonly action: string;
}

const DRAIN_RESET = 'drain the node and reset the GPU';

/** First that fits. Classes: amd/node-scraper's dmesg analyzer at c393416 and the amdgpu driver's own texts. */
// biome-ignore format: a table, one rule a line
const rules: readonly Rule[] = [
  { pattern: /(?<errors>\d+) (?:new )?uncorrectable hardware errors detected.* in (?<block>\w+) block/, type: 'ras', code: 'uncorrectable', name: 'uncorrectable memory or block error', severity: 'critical', action: DRAIN_RESET },
  { pattern: /(?<errors>\d+) (?:new )?deferred hardware errors detected.* in (?<block>\w+) block/, type: 'ras', code: 'deferred', name: 'deferred error', severity: 'warning', action: 'none; the page will be retired' },
  { pattern: /(?<errors>\d+) (?:new )?correctable hardware errors detected.* in (?<block>\w+) block/, type: 'ras', code: 'correctable', name: 'corrected error', severity: 'info', action: 'none' },
  { pattern: /[Pp]oison is consumed by client (?<client>\d+)/, type: 'ras', code: 'poison_consumed', name: 'poisoned data was used', severity: 'critical', action: 'restart the application after the reset that the driver does' },
  { pattern: /[Pp]oison is created/, type: 'ras', code: 'poison_created', name: 'memory was marked as poisoned', severity: 'warning', action: 'none; the page will be retired' },
  { pattern: /Saved bad pages (?<pages>\d+) reaches threshold value (?<threshold>\d+)/, type: 'ras', code: 'bad_pages', name: 'bad pages reach their threshold', severity: 'critical', action: 'drain the node and replace the GPU' },
  { pattern: /Error Address\(PA\):(?<address>0x[0-9a-f]+)\s+Row:(?<row>0x[0-9a-f]+).*Bank:(?<bank>0x[0-9a-f]+)\s+Channel:(?<channel>0x[0-9a-f]+)/, type: 'ras', code: 'address', name: 'where a memory error was', severity: 'info', action: 'none' },
  { pattern: /Accelerator Check Architecture events logged/, type: 'ras', code: 'aca', name: 'hardware error record', severity: 'warning', action: 'read the status word' },
  { pattern: /GPU reset begin/i, type: 'gpu_reset', code: 'begin', name: 'GPU reset begins', severity: 'error', action: 'none; the driver resets the GPU' },
  { pattern: /(?:GPU reset\(\d+\) succeeded|GPU reset end)/i, type: 'gpu_reset', code: 'succeeded', name: 'GPU reset succeeded', severity: 'info', action: 'restart the application' },
  { pattern: /(?:GPU reset\(\d+\) failed|Mode\d reset failed|GPU Recovery Failed)/i, type: 'gpu_reset', code: 'failed', name: 'GPU reset failed', severity: 'critical', action: 'drain and reboot the node' },
  { pattern: /(?:Fatal error during GPU init|hw_init of IP block .* failed|Failed to terminate tmr)/, type: 'kernel_error', code: 'gpu_init_failed', name: 'GPU could not be initialised', severity: 'critical', action: 'drain and reboot the node' },
  { pattern: /ring (?<ring>[\w.]+) timeout/, type: 'kernel_error', code: 'ring_timeout', name: 'ring timeout', severity: 'error', action: 'none; the driver resets the GPU' },
  { pattern: /qcm fence wait loop timeout/, type: 'kernel_error', code: 'queue_timeout', name: 'compute queue timeout', severity: 'error', action: 'reset the GPU' },
  { pattern: /\[(?<hub>gfxhub|mmhub)\w*\] (?:no-)?retry page fault/, type: 'kernel_error', code: 'page_fault', name: 'page fault', severity: 'info', action: 'look at the application' },
  { pattern: /GPU is throttled/, type: 'kernel_error', code: 'throttled', name: 'GPU is throttled', severity: 'warning', action: 'check cooling and power' },
  { pattern: /Failed to disallow cf state/, type: 'kernel_error', code: 'power_state', name: 'power state could not be changed', severity: 'warning', action: 'none; reset the GPU if it repeats' },
];

const ACA_STATUS = /\bSTATUS=0x([0-9a-f]{16})\b/;
/** MCA_STATUS, as in AMD's processor programming references: valid, uncorrected, context corrupt, deferred, poison. */
const VALID = 1n << 63n;
const UNCORRECTED = 1n << 61n;
const CORRUPT = 1n << 57n;
const DEFERRED = 1n << 44n;
const POISON = 1n << 43n;

/**
 *     amdgpu 0000:c1:00.0: amdgpu: socket: 4, die: 0 1 correctable hardware errors detected in total in gfx block, no user action is needed.
 *     amdgpu 0000:68:00.0: {14}poison is consumed by client 12, kick off gpu reset flow
 *     amdgpu 0000:08:00.0: amdgpu: Saved bad pages 176 reaches threshold value 128
 *     amdgpu 0000:03:00.0: {1}[Hardware Error]: ACA[01/01].STATUS=0x98000800003e0000
 *     amdgpu 0000:08:00.0: amdgpu: Error Address(PA):0x60d1a4480  Row:0x1834 Col:0x0  Bank:0x7 Channel:0x74
 */
export function readAmdgpu(text: string): Finding | undefined {
  if (!text.includes('amdgpu')) return undefined;
  const [, address = '', said = ''] = LINE.exec(text) ?? [];
  const status = ACA_STATUS.exec(said)?.[1];
  const found = status === undefined ? byRule(said) : byStatus(status);
  const pci = normalPci(address);
  return found && { ...found, ...(pci === undefined ? {} : { pci }) };
}

function byRule(said: string): Finding | undefined {
  for (const { pattern, ...rule } of rules) {
    const match = pattern.exec(said);
    if (match) return ras({ ...rule, details: details(match.groups ?? {}) });
  }
  return undefined;
}

/** A register without its valid bit says nothing. */
function byStatus(hex: string): Finding | undefined {
  const status = BigInt(`0x${hex}`);
  if ((status & VALID) === 0n) return undefined;
  const base = { type: 'ras', details: { status: `0x${hex}` } } as const;
  if ((status & (UNCORRECTED | CORRUPT)) !== 0n)
    return ras({
      ...base,
      code: 'aca_uncorrected',
      name: 'uncorrected hardware error',
      severity: 'critical',
      action: DRAIN_RESET,
    });
  if ((status & (DEFERRED | POISON)) !== 0n)
    return ras({
      ...base,
      code: 'aca_deferred',
      name: 'deferred hardware error',
      severity: 'warning',
      action: 'none; the page will be retired',
    });
  return ras({
    ...base,
    code: 'aca_corrected',
    name: 'corrected hardware error',
    severity: 'info',
    action: 'none',
  });
}

function ras(finding: Finding): Finding {
  if (finding.type !== 'ras') return finding;
  return {
    ...finding,
    counter: { name: 'gpu_ras_events_total', labels: { severity: finding.severity, class: finding.code } },
  };
}
