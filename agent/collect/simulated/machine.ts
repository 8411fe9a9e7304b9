import { xidNamed } from '#shared/catalogue/xid.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { type Board, boardOf } from './board.ts';
import { type AppliedFault, FaultSchedule, type Onset } from './fault-schedule.ts';
import type { AmdLine, Conditions, InjectedFault, ScriptedFault } from './faults.ts';
import { type JobLabels, jobLabels } from './job-labels.ts';
import { SimulatedNode } from './node.ts';
import { Prng } from './prng.ts';
import { GPU_PROFILES, type GpuModel, type GpuProfile } from './profiles.ts';
import type { Job, LoadPattern } from './workload.ts';

export interface MachineOptions {
  /** Part of the seed: nodes of one fleet differ. */
  readonly node: string;
  /** 8 where not given; at most MAX_GPUS. */
  readonly gpus?: number;
  /** H100 where not given. */
  readonly model?: GpuModel;
  /** The same seed, node and times of reading give the same values. 1 where not given. */
  readonly seed?: number;
  /** What passes between two reads where the clock steps back. */
  readonly intervalMs: number;
  readonly faults?: readonly ScriptedFault[];
  /** Mild faults by chance, for each GPU and hour. None where not given. */
  readonly faultRate?: number;
  /** `jobs` where not given. */
  readonly load?: LoadPattern;
  /**
   * Longest step of the physics, seconds; 1 where not given. Longer ones are cheaper, and about right for reads far
   * apart: work changes with the steps, and power is the mean over the last one.
   */
  readonly stepSeconds?: number;
}

export const MAX_GPUS = 16;
/** A longer pause is taken for this one: the loop that catches up stays short. */
const LONGEST_PAUSE_MS = 86_400_000;
const NO_EVENTS: readonly FleetEvent[] = [];
const SOURCE = 'simulated';

/** A simulated node as its collectors read it: boards, chassis, job, and the faults that they have. */
export class Machine {
  readonly name: string;
  readonly profile: GpuProfile;
  readonly boards: readonly Board[];
  readonly node: SimulatedNode;
  readonly #faults: FaultSchedule;
  readonly #intervalMs: number;
  /** By GPU: whether it was lost at the last read. */
  readonly #lost: boolean[];
  #job: Job | undefined;
  #lastRead: number | undefined;
  /** Since the first read, as simulated: whole milliseconds, so that a script's times are met exactly. */
  #elapsedMs = 0;

  /** Throws `invalid_config` where a scripted fault or the number of GPUs is not possible. */
  constructor(options: MachineOptions) {
    const { node, gpus = 8, model = 'H100', seed = 1, intervalMs, load, stepSeconds } = options;
    if (!Number.isInteger(gpus) || gpus < 1 || gpus > MAX_GPUS) {
      throw new FleetError('invalid_config', `Cannot simulate ${gpus} GPUs: 1 to ${MAX_GPUS} are possible`);
    }
    this.name = node;
    this.profile = GPU_PROFILES[model];
    this.#intervalMs = intervalMs;
    this.node = new SimulatedNode(this.profile, gpus, seed, node, load, stepSeconds);
    this.boards = Array.from({ length: gpus }, (_, i) =>
      boardOf(i, this.profile, new Prng(seed, node, 'board', i)),
    );
    this.#faults = new FaultSchedule({
      gpus,
      vendor: this.profile.vendor,
      script: options.faults ?? [],
      ratePerGpuHour: options.faultRate ?? 0,
      random: new Prng(seed, node, 'faults'),
    });
    this.#lost = new Array(gpus).fill(false);
  }

  /** The job that has the GPUs, as labels. */
  get job(): JobLabels | undefined {
    return jobLabels(this.#job, this.name);
  }

  get applied(): readonly AppliedFault[] {
    return this.#faults.applied;
  }

  conditionsOf(gpu: number): Conditions {
    return this.#faults.conditionsOf(gpu);
  }

  inject(fault: InjectedFault): void {
    this.#faults.inject(fault);
  }

  /** To this moment; faults first, so that they act on the time that has passed since the last read. */
  advance(nowMs: number): readonly FleetEvent[] {
    const passedMs = this.#passedMs(nowMs);
    this.#elapsedMs += passedMs;
    const events: FleetEvent[] = [];
    for (const onset of this.#faults.advance(this.#elapsedMs / 1000)) this.#strike(onset, nowMs, events);
    for (const board of this.boards) {
      const conditions = this.#faults.conditionsOf(board.index);
      this.node.gpus[board.index]!.conditions = conditions;
      const lost = conditions.lost > 0;
      if (lost === this.#lost[board.index]) continue;
      this.#lost[board.index] = lost;
      events.push(presenceEvent(board, lost, nowMs));
    }
    this.node.workload.jobless = this.#faults.conditionsOf(0).jobless > 0;
    this.node.advance(passedMs / 1000);
    const { job } = this.node.workload;
    if (job !== this.#job) events.push(this.#changeJob(job, nowMs));
    return events.length > 0 ? events : NO_EVENTS;
  }

  #strike({ gpu, effect, xid }: Onset, nowMs: number, events: FleetEvent[]): void {
    const board = this.boards[gpu]!;
    if (effect.startsJob) this.node.workload.startJob();
    if (this.profile.vendor === 'amd') {
      if (effect.amd) events.push(amdEvent(board, effect.amd, nowMs));
    } else if (xid !== undefined) {
      this.node.gpus[gpu]!.lastXid = xid;
      events.push(xidEvent(board, xid, nowMs));
    }
  }

  #changeJob(job: Job | undefined, nowMs: number): FleetEvent {
    const before = this.job?.job;
    this.#job = job;
    return jobEvent(before, this.job, this.boards.length, nowMs);
  }

  /** A clock that stepped back tells nothing of the time that passed: one interval then. */
  #passedMs(nowMs: number): number {
    const last = this.#lastRead;
    this.#lastRead = nowMs;
    if (last === undefined) {
      this.node.workload.beginAt(nowMs);
      return 0;
    }
    return nowMs < last ? this.#intervalMs : Math.min(nowMs - last, LONGEST_PAUSE_MS);
  }
}

/** With the line that the kernel log would have, as NVIDIA's driver writes it. */
function xidEvent({ index, uuid, pciAddress }: Board, code: number, timestampMs: number): FleetEvent {
  const { name, severity } = xidNamed(code);
  return {
    type: 'xid',
    timestampMs,
    gpu: String(index),
    gpuUuid: uuid,
    text: `NVRM: Xid (PCI:${pciAddress}): ${code}, pid='<unknown>', name=<unknown>, ${name}`,
    attributes: { code: String(code), name, severity, source: SOURCE },
  };
}

/** As amdgpu writes it. */
function amdEvent({ index, uuid, pciAddress }: Board, line: AmdLine, timestampMs: number): FleetEvent {
  return {
    type: line.type,
    timestampMs,
    gpu: String(index),
    gpuUuid: uuid,
    text: `amdgpu ${pciAddress}: amdgpu: ${line.text}`,
    attributes: { code: line.code, severity: line.severity, source: SOURCE },
  };
}

function presenceEvent({ index, uuid, pciAddress }: Board, lost: boolean, timestampMs: number): FleetEvent {
  return {
    type: lost ? 'gpu_lost' : 'gpu_back',
    timestampMs,
    gpu: String(index),
    gpuUuid: uuid,
    text: `GPU ${index} (${pciAddress}) ${lost ? 'cannot be reached any more' : 'answers again'}`,
    attributes: { source: SOURCE },
  };
}

/** One for the node, whose GPUs share a job. */
function jobEvent(
  before: string | undefined,
  after: JobLabels | undefined,
  gpus: number,
  timestampMs: number,
): FleetEvent {
  const text =
    after === undefined
      ? `Job ${before} has left the node's ${gpus} GPUs`
      : `Job ${after.job} has the node's ${gpus} GPUs${before === undefined ? '' : `, after job ${before}`}`;
  return {
    type: 'job_change',
    timestampMs,
    gpu: '',
    gpuUuid: '',
    text,
    attributes: { job: after?.job ?? '', previous: before ?? '', gpus: String(gpus), source: SOURCE },
  };
}
