/** What faults change of a GPU. All zero for a GPU without one; of two faults that overlap the larger counts. */
export interface Conditions {
  /** °C by which the core's temperature settles higher. */
  readonly addedCelsius: number;
  readonly correctedPerSecond: number;
  readonly uncorrectedPerSecond: number;
  readonly crcErrorsPerSecond: number;
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
  /** As the driver numbers it: 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset. */
  readonly recoveryAction: number;
}

export const NO_FAULT: Conditions = {
  addedCelsius: 0,
  correctedPerSecond: 0,
  uncorrectedPerSecond: 0,
  crcErrorsPerSecond: 0,
  remapPending: 0,
  remapFailed: 0,
  lost: 0,
  frozen: 0,
  stuck: 0,
  linkDown: 0,
  powerBrake: 0,
  memoryFull: 0,
  recoveryAction: 0,
};

export interface FaultEffect {
  readonly conditions: Partial<Conditions>;
  /** Raised once, when the fault begins. */
  readonly xid?: number;
  /** Seconds that it lasts when it comes by chance (`faultRate`); without it, it never does. */
  readonly byChanceSeconds?: number;
}

/**
 * Every fault: its name and what it changes while it lasts. Counters keep what they counted after it ends, as
 * hardware does; everything else goes back.
 */
export const FAULTS = {
  /** Coolant or airflow lost: past 95 °C within a minute even while the clock is halved. */
  thermal_runaway: { conditions: { addedCelsius: 75 } },
  /** A bank that dies: corrected errors in a flood, and double-bit errors that ask for a reset. */
  ecc_burst: {
    conditions: { correctedPerSecond: 20, uncorrectedPerSecond: 0.1, remapPending: 1, recoveryAction: 4 },
    xid: 48,
  },
  /** A weak cell: corrected errors, nothing else. */
  ecc_corrected: { conditions: { correctedPerSecond: 0.5 }, byChanceSeconds: 120 },
  /** No spare rows left. */
  row_remap_failure: { conditions: { remapPending: 1, remapFailed: 1, recoveryAction: 1 }, xid: 64 },
  /** Any Xid; the fault's `code` says which, else 119: the GPU's own processor does not answer. */
  xid: { conditions: {}, xid: 119 },
  /** An application's fault: the GPU is fine. */
  application_xid: { conditions: {}, xid: 13, byChanceSeconds: 1 },
  off_the_bus: { conditions: { lost: 1 }, xid: 79 },
  frozen_sensor: { conditions: { frozen: 1 }, byChanceSeconds: 60 },
  nvlink_down: { conditions: { linkDown: 1, crcErrorsPerSecond: 5 }, xid: 74 },
  /** The chassis asks for less power (a supply failed): hardware halves the clock. */
  power_brake: { conditions: { powerBrake: 1 }, byChanceSeconds: 30 },
  memory_full: { conditions: { memoryFull: 1 } },
  stuck_read: { conditions: { stuck: 1 } },
} as const satisfies Record<string, FaultEffect>;

export type FaultKind = keyof typeof FAULTS;

/** A fault for one GPU. */
export interface InjectedFault {
  /** Index of the GPU. */
  readonly gpu: number;
  /** One of FAULTS. */
  readonly kind: FaultKind | (string & {});
  /** Milliseconds; for ever where not given. It lasts at least until the next read. */
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
export function combine(effects: readonly FaultEffect[]): Conditions {
  const all: { -readonly [Name in keyof Conditions]: number } = { ...NO_FAULT };
  for (const { conditions } of effects) {
    for (const name of Object.keys(conditions) as (keyof Conditions)[]) {
      all[name] = Math.max(all[name], conditions[name] ?? 0);
    }
  }
  return all;
}
