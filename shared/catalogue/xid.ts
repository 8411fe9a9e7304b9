type XidSeverity = 'info' | 'warning' | 'error' | 'critical';

/** What an Xid of NVIDIA's driver means, and what to do about it. */
export interface Xid {
  /** A few words, for a headline. */
  readonly name: string;
  readonly severity: XidSeverity;
  /** What an operator should do; `none` where nothing. */
  readonly action: string;
  /** A sentence for people. */
  readonly meaning: string;
}

/** Rises with every change of a verdict, so that a stored verdict says by which table it was given. */
export const XID_CATALOGUE_VERSION = 1;

type Row = readonly [
  codes: readonly (number | readonly [first: number, last: number])[],
  severity: XidSeverity,
  name: string,
  action: string,
  meaning?: string,
];

const APP = 'restart the application';
const RESET = 'reset the GPU';
const DRAIN_RESET = 'drain the node and reset the GPU';
const ONCE = 'report once, no remediation';
const DECODE = 'decode the status words of the kernel line: fatal, reset the GPU; else check link and cables';

/**
 * The proposed verdicts, judged from NVIDIA's Xid catalogue (spreadsheet of 2026), gpud, NVSentinel, Azure's node
 * health checks and DCGM, which disagree on 34 codes. "Unused" in NVIDIA's catalogue: seen all the same on older
 * drivers, so it is reported once as a warning and nothing is done.
 */
// biome-ignore format: a table, one verdict a line
const table: readonly Row[] = [
  [[8], 'warning', 'channel idle timeout', APP, 'The GPU stopped processing a channel.'],
  [[11], 'info', 'bad push buffer', APP, 'Invalid or corrupted push buffer stream.'],
  [[13], 'info', 'graphics engine exception', `${APP}; twice on the same GPC and TPC: run diagnostics`, 'An application used a bad address; faulty hardware where the same GPC and TPC repeat.'],
  [[25], 'info', 'illegal push buffer', APP, 'Invalid or illegal push buffer stream.'],
  [[31], 'info', 'MMU fault', `${APP}; in two runs on the same GPU: run diagnostics`, 'GPU memory page fault, mostly of an application.'],
  [[32], 'warning', 'PBDMA error', APP, 'Invalid or corrupted push buffer stream, seen by the DMA engine.'],
  [[37], 'info', 'FECS unimplemented method', 'none', 'Driver firmware was asked for a method that it does not have.'],
  [[38], 'warning', 'FECS watchdog timeout', 'none; support if it repeats', 'Driver firmware did not answer its watchdog.'],
  [[43], 'info', 'channel reset', 'none', 'An application was stopped; the GPU is fine.'],
  [[44], 'warning', 'engine fault in context switch', 'none; reset the GPU if it repeats', 'Graphics engine fault during a context switch.'],
  [[45], 'info', 'preemptive cleanup', 'none', 'Follows another error, which is the one to look at.'],
  [[46], 'error', 'GPU timeout', RESET, 'The GPU stopped processing.'],
  [[48], 'critical', 'uncorrectable ECC error', `${DRAIN_RESET}; replace if it repeats`, 'Double-bit error in GPU memory.'],
  [[54], 'critical', 'auxiliary power not connected', 'check the power cables', 'Auxiliary power is not connected to the GPU board.'],
  [[60], 'warning', 'SEC2 exception', APP, 'Video or security processor exception.'],
  [[62], 'critical', 'PMU halt', `${RESET}; support if it repeats`, 'The internal micro-controller halted.'],
  [[63], 'warning', 'row remapping or page retirement recorded', 'reset the GPU at the next drain', 'Memory with errors was marked for remapping, which a reset completes.'],
  [[64], 'critical', 'row remapping failed', 'drain the node and replace the GPU', 'Memory with errors could not be remapped or retired.'],
  [[66], 'info', 'illegal register access by the driver', 'none'],
  [[67], 'info', 'verification violation', 'none', 'Illegal access by the driver.'],
  [[69], 'warning', 'class error', APP, 'A bad method for the graphics engine class.'],
  [[74], 'error', 'NVLink error', 'decode the seven registers of the kernel line: reset the GPU or inspect the link', 'NVLink up to generation 4 reported an error.'],
  [[78], 'warning', 'vGPU start error', 'update driver and firmware'],
  [[79], 'critical', 'GPU has fallen off the bus', 'drain and reboot the node; replace when it happens twice within 30 days', 'The GPU cannot be reached over PCIe.'],
  [[80], 'warning', 'push buffer CRC mismatch', APP, 'Corrupted data was sent to the GPU.'],
  [[92], 'warning', 'high rate of single-bit errors', 'watch', 'Corrected memory errors come fast, which often precedes uncorrectable ones.'],
  [[93], 'warning', 'InfoROM wear limit exceeded', 'none'],
  [[94], 'warning', 'contained memory error', `${APP}; a row remapping follows`, 'An uncorrectable memory error that hit one application only.'],
  [[95], 'critical', 'uncontained memory error', DRAIN_RESET, 'An uncorrectable memory error that may have hit every application on the GPU.'],
  [[109], 'error', 'context switch timeout', RESET],
  [[110], 'critical', 'security fault', `${RESET}; contact support`],
  [[119], 'critical', 'GSP RPC timeout', `${DRAIN_RESET}; it often takes a reboot`, 'The GPU system processor does not answer.'],
  [[120], 'critical', 'GSP error', DRAIN_RESET, 'The GPU system processor failed.'],
  [[121], 'warning', 'C2C link error', 'none; support if it repeats', 'An error on the chip-to-chip link of a superchip.'],
  [[136], 'error', 'NVLink training failed', `${RESET}; check the link`],
  [[137], 'info', 'illegal peer access over NVLink', APP, 'NVLink privilege error.'],
  [[140], 'critical', 'unrecovered ECC error', DRAIN_RESET],
  [[141], 'info', 'CUDA fast path error', 'none'],
  [[142], 'warning', 'NVENC3 error', 'contact support'],
  [[143], 'critical', 'GPU initialization error', `${RESET}; then replace`],
  [[144], 'warning', 'NVLink SAW error', DECODE],
  [[145], 'warning', 'NVLink RLW error', DECODE],
  [[146], 'warning', 'NVLink TLW error', DECODE],
  [[147], 'warning', 'NVLink TREX error', DECODE],
  [[148], 'warning', 'NVLink NVLPW_CTRL error', DECODE],
  [[149], 'warning', 'NVLink NETIR error', DECODE, 'Link down or bit errors on NVLink 5.'],
  [[150], 'warning', 'NVLink MSE error', DECODE],
  [[151], 'error', 'key rotation error', 'restart the VM', 'Confidential computing could not change its keys.'],
  [[152], 'info', 'DLA SMMU error', 'none'],
  [[154], 'warning', 'recovery action changed', 'do what the kernel line says: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset', 'The driver states what it needs to recover.'],
  [[155], 'error', 'NVLink link down', `${RESET}, unless somebody took the link down on purpose`],
  [[156], 'error', 'resource retirement', RESET, 'A part of the GPU, such as a TPC, is taken out of use.'],
  [[157], 'warning', 'resource retirement failed', 'contact support'],
  [[158], 'critical', 'GPU fatal timeout', RESET],
  [[159], 'warning', 'CHI non-data error', 'none, unless it comes alone'],
  [[160], 'info', 'channel retirement', 'none'],
  [[162], 'info', 'power smoothing engaged again', 'none; ends 163'],
  [[163], 'warning', 'power smoothing disengaged', 'fix the cooling; no reset is needed'],
  [[164], 'warning', 'power smoothing near its end of life', 'plan a replacement'],
  [[165], 'error', 'power smoothing used up', 'replace where it is needed'],
  [[166], 'warning', 'traffic before encryption was set up', 'none outside confidential computing'],
  [[167], 'critical', 'PCIe fatal timeout', 'drain and reboot the node'],
  [[168], 'error', 'reduced memory', 'turn ECC on and restart the VM', 'Errors were found in the write-protected region.'],
  [[169], 'error', 'SEC2 halt', RESET, 'An internal micro-controller halted.'],
  [[170], 'warning', 'confidential computing interrupt', 'none outside confidential computing'],
  [[171], 'info', 'uncorrectable DRAM error', 'see Xid 48', 'Detail of an Xid 48: the error is in device memory.'],
  [[172], 'info', 'uncorrectable SRAM error', 'see Xid 48; replace sooner', 'Detail of an Xid 48: the error is in the chip.'],
  [[173], 'critical', 'C2C fatal link failure', 'drain and reboot the node'],
  [[[39, 41], [70, 72], [75, 77], 85, [126, 135]], 'warning', 'copy engine error', APP],
  [[68, 83, 84, 88, 89, [96, 98]], 'info', 'video decoder error', APP, 'Exception of an NVDEC engine.'],
  [[82, [99, 105]], 'info', 'JPEG decoder error', APP, 'Exception of an NVJPG engine.'],
  [[86, 139], 'info', 'optical flow error', APP, 'Exception of an OFA engine.'],
  [[106, 107], 'info', 'SMBPBI test message', 'none'],
  [[14, 108], 'info', 'unused code', 'none', "NVIDIA's catalogue marks this code unused and says to ignore it."],
  [[153], 'info', 'DLA timeout', 'none'],
  [[161], 'info', 'channel retirement failed', 'none'],
  [[[1, 7], 9, 10, 12, [15, 24], [26, 30], [33, 36], 42, 47, [49, 53], [55, 59], 61, 65, 73, 81, 87, 90, 91, [111, 118], [122, 125], 138], 'warning', 'unused code', ONCE, "NVIDIA's catalogue marks this code unused; older drivers gave it."],
];

/** For a code that the table does not have: a newer driver's. Worth one look, never an automatic action. */
const UNKNOWN: Xid = {
  name: 'unknown Xid',
  severity: 'warning',
  action: ONCE,
  meaning: 'This code is not in the catalogue; a newer driver may explain it.',
};

const byCode: ReadonlyMap<number, Xid> = new Map(
  table.flatMap(([codes, severity, name, action, meaning]) => {
    const xid: Xid = {
      name,
      severity,
      action,
      meaning: meaning ?? `${name[0]!.toUpperCase()}${name.slice(1)}.`,
    };
    return codes.flatMap(numbersOf).map((code) => [code, xid] as const);
  }),
);

/** The verdict on a code; for one that is not in the table, a warning named `unknown Xid`. */
export function xidNamed(code: number): Xid {
  return byCode.get(code) ?? UNKNOWN;
}

/** Whether jobs on the GPU are lost or wrong now: what pages somebody. */
export function isCriticalXid(code: number): boolean {
  return xidNamed(code).severity === 'critical';
}

function numbersOf(codes: Row[0][number]): number[] {
  if (typeof codes === 'number') return [codes];
  const [first, last] = codes;
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
