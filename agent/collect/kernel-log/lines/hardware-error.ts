import type { XidSeverity } from '#shared/catalogue/xid.ts';
import { normalPci } from '../../gpu-identity.ts';
import { details, type Finding } from '../finding.ts';
import { aerFinding } from './pcie.ts';

const EDAC = /^EDAC (?:\w+ )?(MC\d+): (\d+) (CE|UE) .*? on (\S+)/;
const GHES = /^(\{\d{1,10}\})?\[Hardware Error\]: +(.*)$/;
const GHES_SEVERITY = /^event severity: (\w+)/;
const SECTION = /section_type: (.{1,64})/;
const DEVICE = /device_id: ([0-9a-f:.]+)$/;
const MACHINE_CHECK =
  /\[Hardware Error\]: CPU (\d+): Machine Check(?: Exception)?: \w+ Bank (\d+): ([0-9a-f]{16})/;
const UNCORRECTED_BIT = 1n << 61n;

const SEVERITY: Readonly<Record<string, XidSeverity>> = {
  fatal: 'critical',
  recoverable: 'error',
  corrected: 'info',
  info: 'info',
};

/**
 * Errors of the host's own hardware.
 *
 *     EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x1 offset:0x0)
 *     mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 5: be00000000800400
 *     {1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1
 *     {1}[Hardware Error]: event severity: recoverable
 *     {1}[Hardware Error]:   section_type: PCIe error
 *     {1}[Hardware Error]:   device_id: 0000:54:01.0
 *
 * What the firmware reports comes as a block of lines: its severity is one event, a PCIe device in it another.
 */
export class HardwareErrors {
  /** Of the block that is being read. */
  #severity = '';
  #section = '';

  read(text: string): Finding | undefined {
    if (text.startsWith('EDAC ')) return edac(text);
    if (!text.includes('[Hardware Error]')) return undefined;
    return machineCheck(text) ?? this.#firmware(GHES.exec(text)?.[2] ?? '');
  }

  #firmware(said: string): Finding | undefined {
    if (said.startsWith('Hardware error from APEI')) {
      this.#severity = '';
      this.#section = '';
      return undefined;
    }
    this.#section = SECTION.exec(said)?.[1] ?? this.#section;
    const severity = GHES_SEVERITY.exec(said)?.[1];
    if (severity !== undefined) {
      this.#severity = severity;
      return hardwareError(
        `firmware_${severity}`,
        'firmware reported a hardware error',
        SEVERITY[severity] ?? 'warning',
      );
    }
    const pci = this.#section === 'PCIe error' ? normalPci(DEVICE.exec(said)?.[1] ?? '') : undefined;
    if (pci === undefined) return undefined;
    this.#section = '';
    return aerFinding(pci, AER_SEVERITY[this.#severity] ?? 'unknown', 'firmware');
  }
}

const AER_SEVERITY: Readonly<Record<string, string>> = {
  fatal: 'uncorrected_fatal',
  recoverable: 'uncorrected_nonfatal',
  corrected: 'corrected',
};

function edac(text: string): Finding | undefined {
  const [, controller, errors, kind, dimm] = EDAC.exec(text) ?? [];
  if (controller === undefined) return undefined;
  const corrected = kind === 'CE';
  const code = corrected ? 'memory_corrected' : 'memory_uncorrected';
  const name = corrected ? 'corrected memory error of the host' : 'uncorrected memory error of the host';
  return hardwareError(code, name, corrected ? 'info' : 'critical', { controller, errors, dimm }, dimm);
}

function machineCheck(text: string): Finding | undefined {
  const [, cpu, bank, status = '0'] = MACHINE_CHECK.exec(text) ?? [];
  if (cpu === undefined) return undefined;
  const uncorrected = (BigInt(`0x${status}`) & UNCORRECTED_BIT) !== 0n;
  const code = uncorrected ? 'machine_check_uncorrected' : 'machine_check_corrected';
  return hardwareError(code, 'machine check', uncorrected ? 'critical' : 'info', {
    cpu,
    bank,
    status: `0x${status}`,
  });
}

function hardwareError(
  code: string,
  name: string,
  severity: XidSeverity,
  said: Record<string, string | undefined> = {},
  what = '',
): Finding {
  const action = severity === 'info' ? 'watch the rate' : 'drain the node and look at its hardware log';
  return { type: 'hardware_error', code, name, severity, action, what, details: details(said) };
}
