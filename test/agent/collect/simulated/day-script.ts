import type { FaultKind, ScriptedFault } from '../../../../agent/collect/simulated/faults.ts';
import type { Vendor } from '../../../../agent/collect/simulated/profiles.ts';

/** What must be found of a fault: as a Finding, with the seconds by which its begin and end may be late. */
export interface Expected {
  readonly what: string;
  readonly gpu: string;
  readonly from: number;
  readonly to: number;
  readonly rose: number;
  readonly late?: readonly [from: number, to: number];
}

export interface ExpectedEvent {
  readonly type: string;
  readonly gpu: string;
  readonly at: number;
  readonly code?: string;
}

/** Seconds that each lasts: whole reads of 10 s. */
const SECONDS: Partial<Record<FaultKind, number>> = {
  thermal_runaway: 600,
  fan_failure: 900,
  ecc_burst: 300,
  ecc_corrected: 600,
  ecc_uncorrected: 400,
  row_remap_failure: 600,
  off_the_bus: 300,
  frozen_sensor: 300,
  nvlink_down: 300,
  nvlink_flap: 150,
  pcie_downtrain: 900,
  power_brake: 120,
  straggler: 900,
  memory_full: 300,
  stuck_read: 120,
  job_stop: 600,
  driver_reload: 20,
};

/** What breaks a GPU or its link, those that ask for something, and the usual ones of applications; 13, 48, 64, 74, 79, 94 and 119 come with their faults. */
export const XIDS = [
  31, 43, 45, 62, 63, 92, 95, 109, 110, 120, 121, 136, 137, 140, 143, 149, 154, 155, 156, 158, 167, 171, 172,
];

/** When the load pattern begins the first job. */
const FIRST_JOB = 20;
const FIRST_AT = 1800;
const EVERY = 1800;

/** Each kind of fault once and each Xid once, one every half hour, GPU after GPU. */
export function scriptOf(kinds: readonly FaultKind[], vendor: Vendor): ScriptedFault[] {
  const faults: { kind: FaultKind; code?: number }[] = kinds.map((kind) => ({ kind }));
  if (vendor === 'nvidia') faults.push(...XIDS.map((code) => ({ kind: 'xid' as const, code })));
  return faults.map(({ kind, code }, i) => {
    const seconds = SECONDS[kind];
    return {
      at: FIRST_AT + i * EVERY,
      gpu: i % 8,
      kind,
      ...(seconds === undefined ? {} : { duration: seconds * 1000 }),
      ...(code === undefined ? {} : { code }),
    };
  });
}

/** What a reader of the samples must find of the script, and nothing else. */
export function findingsOf(script: readonly ScriptedFault[], vendor: Vendor): Expected[] {
  const first: Expected = { what: 'no job', gpu: '', from: 0, to: FIRST_JOB, rose: 0 };
  return [first, ...script.flatMap((fault) => findingsOfFault(fault, vendor))];
}

function findingsOfFault({ at, gpu, kind }: ScriptedFault, vendor: Vendor): Expected[] {
  const seconds = SECONDS[kind as FaultKind] ?? 0;
  const nvidia = vendor === 'nvidia';
  const one = (what: string, rose = 0, late?: Expected['late']): Expected => ({
    what,
    gpu: String(gpu),
    from: at,
    to: at + seconds,
    rose,
    ...(late ? { late } : {}),
  });
  const ofNode = (what: string, to: number): Expected => ({ what, gpu: '', from: at, to, rose: 0 });
  const all = (what: string, from: number, to: number): Expected[] =>
    Array.from({ length: 8 }, (_, i) => ({ what, gpu: String(i), from, to, rose: 0 }));
  switch (kind as FaultKind) {
    case 'thermal_runaway':
      // Copper takes its time to warm, and to cool.
      return [one('hot', 0, [60, 120]), one('thermal throttle', 0, [60, 120])];
    case 'fan_failure':
      return [one('fan stands still')];
    case 'ecc_burst':
      return [
        one('corrected errors', 20 * seconds),
        one('uncorrected errors', 0.1 * seconds),
        ...(nvidia
          ? [one('rows remapped', 0.1 * seconds), one('remap pending'), one('asks for recovery')]
          : []),
      ];
    case 'ecc_corrected':
      return [one('corrected errors', 0.5 * seconds)];
    case 'ecc_uncorrected': {
      // One in 20 s: the last read of the fault need not bring one.
      const slow = [0, -10] as const;
      const errors = one('uncorrected errors', 0.05 * seconds, slow);
      return nvidia ? [errors, one('rows remapped', 0.05 * seconds, slow), one('remap pending')] : [errors];
    }
    case 'row_remap_failure':
      return [one('no rows left'), ...(nvidia ? [one('remap pending'), one('asks for recovery')] : [])];
    case 'off_the_bus':
      return [
        one('down'),
        one('lost'),
        // Found when it has lasted a minute; the job goes on with the read that has the GPU back.
        { ...ofNode('job hangs', at + seconds), late: [60, 10] },
        { ...ofNode('job went on from a checkpoint', at + seconds + 10), from: at + seconds, rose: 1 },
      ];
    case 'frozen_sensor':
      // Only the second equal value in a row is said to stand still.
      return [one('frozen', 0, [10, 0])];
    case 'nvlink_down':
      return [
        one('link down'),
        ...(nvidia
          ? [
              one('link errors', 5 * seconds),
              { ...one('link came back', 1), from: at + seconds, to: at + seconds + 10 },
            ]
          : []),
      ];
    case 'nvlink_flap':
      // Down for 30 s, up for 30 s: three times, and up at the end.
      return [
        one('link down'),
        ...(nvidia
          ? [
              one('link errors', 3 * 30 * 2),
              { ...one('link came back', 3), from: at + 30, to: at + seconds + 10 },
            ]
          : []),
      ];
    case 'pcie_downtrain':
      return [one('narrow')];
    case 'power_brake':
      return [one('power brake')];
    case 'straggler':
      return [one('slow without a reason')];
    case 'memory_full':
      return [one('memory full')];
    case 'stuck_read':
      return [one('not read in time')];
    case 'job_stop':
      return [ofNode('no job', at + seconds)];
    case 'driver_reload':
      return [
        ofNode('no job', at + seconds),
        ...all('down', at, at + seconds),
        ...all('lost', at, at + seconds),
        ...all('counters fell', at + seconds, at + seconds + 10),
      ];
    case 'xid':
    case 'application_xid':
    case 'job_start':
      return [];
  }
}

/** The events that must be on record, and no others. */
export function eventsOf(script: readonly ScriptedFault[], vendor: Vendor): ExpectedEvent[] {
  const first: ExpectedEvent = { type: 'job_change', gpu: '', at: FIRST_JOB };
  return [first, ...script.flatMap((fault) => eventsOfFault(fault, vendor))];
}

/** Kinds that come with an Xid of their own, by that. */
const XID_OF: Partial<Record<FaultKind, number>> = {
  ecc_burst: 48,
  ecc_uncorrected: 94,
  row_remap_failure: 64,
  application_xid: 13,
  xid: 119,
  off_the_bus: 79,
  nvlink_down: 74,
  nvlink_flap: 74,
};
/** Kinds that amdgpu has a line for: type and code of its event. */
const AMD_LINES: Partial<Record<FaultKind, readonly [type: string, code: string]>> = {
  thermal_runaway: ['kernel_error', 'throttled'],
  ecc_burst: ['ras', 'uncorrectable'],
  ecc_uncorrected: ['ras', 'poison_consumed'],
  row_remap_failure: ['ras', 'bad_pages'],
  off_the_bus: ['kernel_error', 'lost_from_bus'],
};

function eventsOfFault({ at, gpu, kind, code }: ScriptedFault, vendor: Vendor): ExpectedEvent[] {
  const end = at + (SECONDS[kind as FaultKind] ?? 0);
  const events: ExpectedEvent[] = [];
  const xid = code ?? XID_OF[kind as FaultKind];
  if (vendor === 'nvidia' && xid !== undefined) {
    const times = kind === 'nvlink_flap' ? [at, at + 60, at + 120] : [at];
    for (const time of times) events.push({ type: 'xid', gpu: String(gpu), at: time, code: String(xid) });
  }
  const line = AMD_LINES[kind as FaultKind];
  if (vendor === 'amd' && line) events.push({ type: line[0], gpu: String(gpu), at, code: line[1] });
  if (kind === 'off_the_bus') events.push(...presence([gpu ?? 0], at, end));
  if (kind === 'job_start') events.push({ type: 'job_change', gpu: '', at });
  if (kind === 'job_stop' || kind === 'driver_reload')
    events.push({ type: 'job_change', gpu: '', at }, { type: 'job_change', gpu: '', at: end });
  if (kind === 'driver_reload') {
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    events.push(...presence(all, at, end));
    events.push(...all.map((one) => ({ type: 'counter_reset', gpu: String(one), at: end })));
  }
  return events;
}

function presence(gpus: readonly number[], lost: number, back: number): ExpectedEvent[] {
  return gpus.flatMap((gpu) => [
    { type: 'gpu_lost', gpu: String(gpu), at: lost },
    { type: 'gpu_back', gpu: String(gpu), at: back },
  ]);
}
