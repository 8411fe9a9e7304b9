import type { Vendor } from './profiles.ts';

/** What faults change of a GPU. All zero for a GPU without one; of two faults that overlap the larger counts. */
export interface Conditions {
  /** °C by which the core's temperature settles higher. */
  readonly addedCelsius: number;
  readonly correctedPerSecond: number;
  readonly uncorrectedPerSecond: number;
  readonly crcErrorsPerSecond: number;
  /** Share of the clock that is missing without a reason that the driver would name. */
  readonly slowness: number;
  /** PCIe lanes that did not train. */
  readonly pcieLanesLost: number;
  /** Flags, 0 or 1. */
  readonly remapPending: number;
  readonly remapFailed: number;
  /** Nothing can be read of the GPU, and it does no work. */
  readonly lost: number;
  /** Temperature and power repeat their last value. */
  readonly frozen: number;
  /** Reading the GPU does not return. */
  readonly stuck: number;
  readonly linkDown: number;
  readonly powerBrake: number;
  readonly memoryFull: number;
  /** The chassis' fan before this GPU stands still. */
  readonly fanStopped: number;
  /** The driver is not loaded: what it counts begins anew. */
  readonly unloaded: number;
  /** No job runs on the node. */
  readonly jobless: number;
  /** As the driver numbers it: 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset. */
  readonly recoveryAction: number;
}

export const NO_FAULT: Conditions = {
  addedCelsius: 0,
  correctedPerSecond: 0,
  uncorrectedPerSecond: 0,
  crcErrorsPerSecond: 0,
  slowness: 0,
  pcieLanesLost: 0,
  remapPending: 0,
  remapFailed: 0,
  lost: 0,
  frozen: 0,
  stuck: 0,
  linkDown: 0,
  powerBrake: 0,
  memoryFull: 0,
  fanStopped: 0,
  unloaded: 0,
  jobless: 0,
  recoveryAction: 0,
};

/** What the kernel log says when a fault begins on an AMD board, after `amdgpu <address>: amdgpu: `. */
export interface AmdLine {
  readonly type: 'ras' | 'kernel_error';
  /** What the kernel log's reader calls such a line. */
  readonly code: string;
  readonly text: string;
  readonly severity: 'info' | 'warning' | 'error' | 'critical';
}

export interface FaultEffect {
  readonly conditions: Partial<Conditions>;
  /** What it changes of the node's other GPUs: a fault of the node, which needs no `gpu`. */
  readonly elsewhere?: Partial<Conditions>;
  /** Raised once when the fault begins, on boards of NVIDIA. */
  readonly xid?: number;
  readonly amd?: AmdLine;
  /** Only boards of this vendor have it. */
  readonly vendor?: Vendor;
  /** It comes and goes, so many seconds each; its Xid is raised each time that it comes. */
  readonly flapSeconds?: number;
  /** A job begins in the place of the one that runs. */
  readonly startsJob?: boolean;
  /** How long it lasts where nobody says: for ever where not given, and not at all without conditions. */
  readonly seconds?: number;
  /** Seconds that it lasts when it comes by chance (`faultRate`); without it, it never does. */
  readonly byChanceSeconds?: number;
}

const DRIVER_GONE: Partial<Conditions> = { lost: 1, unloaded: 1, jobless: 1 };

/**
 * Every fault: its name and what it changes while it lasts. Counters keep what they counted after it ends, as
 * hardware does; everything else goes back. The words of `amd` are those of the amdgpu driver.
 */
export const FAULTS = {
  /** Coolant or airflow lost: past 95 °C within a minute even while the clock is halved. */
  thermal_runaway: {
    conditions: { addedCelsius: 75 },
    amd: {
      type: 'kernel_error',
      code: 'throttled',
      text: 'WARN: GPU is throttled, expect performance decrease.',
      severity: 'warning',
    },
  },
  /** A fan of the chassis stands still: the GPU behind it is warmer, and the others a little. */
  fan_failure: { conditions: { addedCelsius: 12, fanStopped: 1 }, elsewhere: { addedCelsius: 4 } },
  /** A bank that dies: corrected errors in a flood, and double-bit errors that ask for a reset. */
  ecc_burst: {
    conditions: { correctedPerSecond: 20, uncorrectedPerSecond: 0.1, remapPending: 1, recoveryAction: 4 },
    xid: 48,
    amd: {
      type: 'ras',
      code: 'uncorrectable',
      text: 'socket: 0, die: 0 1 uncorrectable hardware errors detected in total in umc block',
      severity: 'critical',
    },
  },
  /** A weak cell: corrected errors, nothing else. */
  ecc_corrected: { conditions: { correctedPerSecond: 0.5 }, byChanceSeconds: 120 },
  /** Uncorrectable errors that stay contained to one application. */
  ecc_uncorrected: {
    conditions: { uncorrectedPerSecond: 0.05, remapPending: 1 },
    xid: 94,
    amd: {
      type: 'ras',
      code: 'poison_consumed',
      text: 'poison is consumed by client 12, kick off gpu reset flow',
      severity: 'critical',
    },
  },
  /** No spare rows left. */
  row_remap_failure: {
    conditions: { remapPending: 1, remapFailed: 1, recoveryAction: 1 },
    xid: 64,
    amd: {
      type: 'ras',
      code: 'bad_pages',
      text: 'Saved bad pages 128 reaches threshold value 128',
      severity: 'critical',
    },
  },
  /** Any Xid; the fault's `code` says which, else 119: the GPU's own processor does not answer. */
  xid: { conditions: {}, xid: 119, vendor: 'nvidia' },
  /** An application's fault: the GPU is fine. */
  application_xid: { conditions: {}, xid: 13, vendor: 'nvidia', byChanceSeconds: 1 },
  off_the_bus: {
    conditions: { lost: 1 },
    xid: 79,
    amd: { type: 'kernel_error', code: 'lost_from_bus', text: 'device lost from bus!', severity: 'critical' },
  },
  frozen_sensor: { conditions: { frozen: 1 }, byChanceSeconds: 60 },
  /** A link, NVLink or xGMI, that is down. */
  nvlink_down: { conditions: { linkDown: 1, crcErrorsPerSecond: 5 }, xid: 74 },
  /** A link that goes down and comes back, again and again: a connector that is not seated. */
  nvlink_flap: { conditions: { linkDown: 1, crcErrorsPerSecond: 2 }, xid: 74, flapSeconds: 30 },
  /** The link trained with four lanes of sixteen. */
  pcie_downtrain: { conditions: { pcieLanesLost: 12 } },
  /** The chassis asks for less power (a supply failed): hardware halves the clock. */
  power_brake: { conditions: { powerBrake: 1 }, byChanceSeconds: 30 },
  /** Slower than its neighbours at the same load, and no reason is given; the job waits for it. */
  straggler: { conditions: { slowness: 0.3 } },
  memory_full: { conditions: { memoryFull: 1 } },
  stuck_read: { conditions: { stuck: 1 } },
  /** The scheduler takes the job away; the next one begins when it ends. */
  job_stop: { conditions: { jobless: 1 }, elsewhere: { jobless: 1 } },
  /** The next job begins at once. */
  job_start: { conditions: {}, elsewhere: {}, startsJob: true },
  /** All GPUs of the node vanish and come back with their counters at zero; the job ends. */
  driver_reload: { conditions: DRIVER_GONE, elsewhere: DRIVER_GONE, seconds: 20 },
} as const satisfies Record<string, FaultEffect>;

export type FaultKind = keyof typeof FAULTS;

/** A fault for one GPU, or for the node. */
export interface InjectedFault {
  /** Index of the GPU; a fault of the node needs none, and of `fan_failure` it says which fan. */
  readonly gpu?: number | undefined;
  /** One of FAULTS. */
  readonly kind: FaultKind | (string & {});
  /** Milliseconds; as the kind says where not given. It lasts at least until the next read. */
  readonly duration?: number | undefined;
  /** The Xid to raise instead of the kind's own; the GPU's kernel line names it. */
  readonly code?: number | undefined;
}

export interface ScriptedFault extends InjectedFault {
  /** Seconds after the first read. */
  readonly at: number;
}

export function effectOf(kind: string): FaultEffect | undefined {
  return Object.hasOwn(FAULTS, kind) ? FAULTS[kind as FaultKind] : undefined;
}

/** All at once: of each condition the largest. */
export function combine(all: readonly Partial<Conditions>[]): Conditions {
  const together: { -readonly [Name in keyof Conditions]: number } = { ...NO_FAULT };
  for (const conditions of all) {
    for (const name of Object.keys(conditions) as (keyof Conditions)[]) {
      together[name] = Math.max(together[name], conditions[name] ?? 0);
    }
  }
  return together;
}
