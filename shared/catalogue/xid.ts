export type XidSeverity = 'info' | 'warning' | 'error' | 'critical';

/** From harmless to worst: jobs on the GPU are lost or wrong now. */
export const SEVERITIES: readonly XidSeverity[] = ['info', 'warning', 'error', 'critical'];

/** What an Xid of NVIDIA's driver means, and what to do about it. */
export interface Xid {
  /** A few words, for a headline. */
  readonly name: string;
  readonly severity: XidSeverity;
  /** What an operator should do; `none` where nothing. */
  readonly action: string;
  /** A sentence for people. */
  readonly meaning: string;
  /** Why this verdict, where NVIDIA, gpud, NVSentinel, DCGM and Azure disagree; empty where they do not. */
  readonly reason: string;
}

/** Rises with every change of a verdict, so that a stored verdict says by which table it was given. */
export const XID_CATALOGUE_VERSION = 2;

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

const NO_DATA =
  'gpud reboots; NVIDIA gives no bucket and NVSentinel only its default, so the text of the catalogue decides.';
const UNUSED_REASON =
  'NVSentinel (and gpud for some) act on it by default; NVIDIA lists it as unused, so no machine should act on it.';
const MISLABELLED = "DCGM's class for it contradicts NVIDIA's catalogue, which describes the code";

/**
 * Why, where the systems that judge Xids disagree: one says that the GPU or node must be taken out (NVIDIA: reset
 * or reboot; gpud: Fatal or reboot; NVSentinel: anything but NONE; Azure: node fails; DCGM: FAIL), another that it
 * need not; or two of them name different causes. Verdicts side by side: NVIDIA's Xid catalogue of 2026, gpud
 * 4a8de33, NVSentinel 42672ae, azurehpc-health-checks, nvidia_gpu_exporter, DCGM 4.6.
 */
// biome-ignore format: a table, one reason a line
const reasons: readonly (readonly [codes: Row[0], reason: string])[] = [
  [[13], 'gpud adds nothing to restarting; NVIDIA asks for diagnostics where the same GPC and TPC repeat, as faulty hardware repeats in one place and a bug does not.'],
  [[31], 'gpud inspects hardware at once, NVIDIA only where one GPU repeats: nearly all are bugs of an application.'],
  [[32], 'gpud reboots; NVIDIA, NVSentinel and DCGM see the push buffer of one application, which its restart clears.'],
  [[38, 44], 'gpud reboots; NVIDIA and NVSentinel ignore it: one without a follower harmed nothing.'],
  [[42], `${MISLABELLED} as unused.`],
  [[45], 'NVIDIA restarts the fabric manager where it comes alone, the others ignore it: it is a consequence, so what comes before it decides.'],
  [[48], 'All take the GPU out. NVIDIA drains first where 63 or 64 comes with it; draining first is right in both cases.'],
  [[54, 78], `${MISLABELLED}; the catalogue's text is followed.`],
  [[60], 'gpud reboots and DCGM says thermal; NVIDIA and NVSentinel restart the application: it is a fault of one video or security job.'],
  [[62], 'All take the GPU out; DCGM calls it thermal, NVIDIA a halted micro-controller, which is what is shown.'],
  [[63], 'gpud reboots and Azure fails the node; NVIDIA, NVSentinel and DCGM go on: the remapping is recorded and only waits for a reset, which the next drain brings.'],
  [[64], 'NVIDIA and NVSentinel reset; nothing is left to remap with, so a reset only postpones the replacement.'],
  [[66, 67], "DCGM says NVLink for 67; NVIDIA says an illegal access by the driver, without an effect on jobs."],
  [[68], 'gpud reboots and Azure fails the node; NVIDIA and NVSentinel restart the application: one video decoder, like its seven siblings.'],
  [[69], 'gpud reboots and Azure fails the node; NVIDIA and NVSentinel restart the application: a bad method comes from a program.'],
  [[74], 'gpud reboots and Azure and DCGM fail it; NVIDIA decodes the registers first, as some bits are harmless or only echo a peer.'],
  [[80], 'Azure fails the node; NVIDIA, gpud and NVSentinel restart the application, whose data was damaged on its way.'],
  [[92], 'Azure fails the node; NVIDIA, gpud and NVSentinel ignore it. Corrected errors cost no job, yet foretell ones that do: watched.'],
  [[94], 'gpud reboots; the others restart the application: containment worked, and the row remapping waits for the next reset.'],
  [[95], 'NVIDIA resets and calls it sympathetic; every application on the GPU may hold wrong data, so the node is drained first.'],
  [[109, 136], 'gpud only warns; NVIDIA and NVSentinel reset: the GPU or link does not come back by itself.'],
  [[119, 120], 'All take the GPU out; NVIDIA resets, gpud reboots: a reset is tried first, and often is not enough.'],
  [[121], 'gpud reboots and DCGM says NVLink; NVIDIA and NVSentinel ignore a single one, which the link corrected.'],
  [[137], 'DCGM says NVLink; NVIDIA and gpud say that an application reached for a peer without the right to.'],
  [[142], 'NVSentinel and NVIDIA send it to support, gpud warns: no job is known to be hit, so nothing is done by itself.'],
  [[[144, 150]], 'gpud reboots before it decodes; NVIDIA gives a verdict by unit and status, from nothing to reset, and the line has both.'],
  [[151], 'gpud reboots the host; NVIDIA and NVSentinel restart the VM, which is what holds the keys.'],
  [[154], "gpud warns, NVSentinel reads the message: it is the driver's own verdict and beats every table."],
  [[155, 156, 158], 'gpud reboots, NVIDIA and NVSentinel reset, which is enough and takes less.'],
  [[157], 'NVIDIA asks support to investigate, NVSentinel does nothing: capacity is not lost, but what should have been retired is in use.'],
  [[159], 'NVIDIA resets with UVM or vGPU and else ignores it unless alone; NVSentinel sends it to support by default.'],
  [[163, 166, 167, 169, 172, 173], NO_DATA],
  [[162, 164, 165, 168, 170, 171], 'NVIDIA gives no bucket and NVSentinel only its default (support); the text of the catalogue decides.'],
  [[14, 108], 'gpud warns; NVIDIA and NVSentinel ignore it.'],
  [[[1, 7], 9, 10, 12, [15, 24], [26, 30], [33, 36], 47, [49, 53], [55, 59], 61, 65, 73, 81, 87, 90, 91, [111, 118], [122, 125], 138], UNUSED_REASON],
];

/** For a code that the table does not have: a newer driver's. Worth one look, never an automatic action. */
const UNKNOWN: Xid = {
  name: 'unknown Xid',
  severity: 'warning',
  action: ONCE,
  meaning: 'This code is not in the catalogue; a newer driver may explain it.',
  reason: '',
};

const reasonOf = new Map(
  reasons.flatMap(([codes, reason]) => codes.flatMap(numbersOf).map((code) => [code, reason] as const)),
);

const byCode: ReadonlyMap<number, Xid> = new Map<number, Xid>(
  table.flatMap(([codes, severity, name, action, given]) => {
    const meaning = given ?? `${name[0]!.toUpperCase()}${name.slice(1)}.`;
    return codes
      .flatMap(numbersOf)
      .map((code) => [code, { name, severity, action, meaning, reason: reasonOf.get(code) ?? '' }] as const);
  }),
);

/** The verdict on a code; for one that is not in the table, a warning named `unknown Xid`. */
export function xidNamed(code: number): Xid {
  return byCode.get(code) ?? UNKNOWN;
}

/** The worse of two. */
export function worse(a: XidSeverity, b: XidSeverity): XidSeverity {
  return SEVERITIES.indexOf(a) >= SEVERITIES.indexOf(b) ? a : b;
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
