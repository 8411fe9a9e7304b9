import type { Block, Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { compilePeerReads, jobOfTick, type PeerReads, takePeerReads } from './peer-reads.ts';
import { type PeerRow, READINGS } from './peer-row.ts';

/** A group is looked at this often at most: peers are compared every 30 s. */
const LOOK_MS = 10_000;
/** Readings older than so many intervals, or than two rounds, are not known. */
const FRESH_INTERVALS = 3;
const LEAST_FRESH_MS = 60_000;
/** GPUs at most; more are not compared. */
const MAX_GPUS = 200_000;
/** A GPU that was silent for so long is forgotten. */
const FORGET_MS = 3_600_000;

interface Program {
  readonly gpus: readonly PeerReads[];
  lookedMs: number;
}

/** A GPU that is compared. */
interface Known {
  source: Source;
  node: KnownNode;
  gpu: string;
  readonly uuid: string;
  model: string;
  job: string;
  /** Until when the job counts, as `untilMs`. */
  jobUntilMs: number;
  readonly readings: Float64Array;
  /** Until when each reading counts, on the aggregator's wall clock; taken from the time of the block. */
  readonly untilMs: Float64Array;
  heardMs: number;
}

/** A node with at least one GPU. */
interface KnownNode {
  /** `cluster/node`. */
  readonly name: string;
  source: Source;
  readonly gpus: Set<Known>;
}

/** A node with GPUs, and whose jobs have them. */
export interface NodeOfPeers {
  /** `cluster/node`. */
  readonly name: string;
  /** The stream that it was last heard by. */
  readonly source: Source;
  readonly jobs: readonly string[];
}

/** Gathers from the blocks what peers are compared by: a row for each GPU, whatever groups its series come in. */
export class PeerRows {
  readonly #maxGpus: number;
  readonly #gpus = new Map<string, Known>();
  readonly #nodes = new Map<string, KnownNode>();
  readonly #programs = new WeakMap<Source, WeakMap<Dictionary, Program>>();

  /** `maxGpus`: 200,000 where not given; about 600 bytes each. */
  constructor(maxGpus: number = MAX_GPUS) {
    this.#maxGpus = maxGpus;
  }

  get size(): number {
    return this.#gpus.size;
  }

  evaluate(block: Block): void {
    if (!block.live) return;
    const program = this.#programOf(block);
    const { timestampMs, dictionary } = block;
    // A clock that was set back begins anew.
    const passed = timestampMs - program.lookedMs;
    if (passed >= 0 && passed < LOOK_MS) return;
    program.lookedMs = timestampMs;
    const untilMs = timestampMs + Math.max(LEAST_FRESH_MS, FRESH_INTERVALS * dictionary.intervalMs);
    for (const reads of program.gpus) {
      const gpu = this.#knownOf(block.source, reads, timestampMs);
      if (gpu === undefined) continue;
      takePeerReads(reads, block, gpu.readings, gpu.untilMs, untilMs);
      const job = jobOfTick(reads, block);
      if (job === undefined) continue;
      gpu.job = job;
      gpu.jobUntilMs = untilMs;
    }
  }

  /** Rows of the GPUs that are heard; a row is reused for the next. `nowMs` by the wall clock, as blocks' times. */
  *fresh(nowMs: number, poolOf: (source: Source) => string): Iterable<PeerRow> {
    const readings = new Float64Array(READINGS);
    for (const known of this.#gpus.values()) {
      if (nowMs - known.heardMs > FORGET_MS) {
        this.#forget(known);
        continue;
      }
      // Its series ended, or whoever told of jobs tells no more.
      if (nowMs > known.jobUntilMs) known.job = '';
      let any = false;
      for (let i = 0; i < READINGS; i++) {
        const isFresh = nowMs <= known.untilMs[i]!;
        readings[i] = isFresh ? known.readings[i]! : Number.NaN;
        any ||= isFresh;
      }
      if (!any) continue;
      const { uuid, source, gpu, model, job } = known;
      const { cluster, node } = source;
      const slot = Number.parseInt(gpu, 10) || 0;
      yield { uuid, cluster, node, slot, model, pool: poolOf(source), job, readings };
    }
  }

  /** Every GPU that has been heard within an hour. */
  gpus(): Iterable<{ readonly source: Source; readonly gpu: string; readonly uuid: string }> {
    return this.#gpus.values();
  }

  /** GPUs of a node (`cluster/node`). */
  countOf(node: string): number {
    return this.#nodes.get(node)?.gpus.size ?? 0;
  }

  /** Every node that has been heard within an hour. */
  *nodes(): Iterable<NodeOfPeers> {
    for (const { name, source, gpus } of this.#nodes.values()) {
      const jobs = new Set<string>();
      for (const { job } of gpus) if (job !== '') jobs.add(job);
      yield { name, source, jobs: [...jobs] };
    }
  }

  #knownOf(source: Source, { uuid, gpu, model }: PeerReads, heardMs: number): Known | undefined {
    let known = this.#gpus.get(uuid);
    if (known === undefined) {
      if (this.#gpus.size >= this.#maxGpus) return undefined;
      const readings = new Float64Array(READINGS).fill(Number.NaN);
      const untilMs = new Float64Array(READINGS).fill(Number.NEGATIVE_INFINITY);
      const node = this.#nodeOf(source);
      known = { source, node, gpu, uuid, model, job: '', jobUntilMs: 0, readings, untilMs, heardMs };
      this.#gpus.set(uuid, known);
      node.gpus.add(known);
    } else if (known.source !== source) this.#move(known, source);
    known.gpu = gpu;
    known.heardMs = heardMs;
    if (model !== '') known.model = model;
    return known;
  }

  /** The GPU comes by another stream: the same node anew, or another node. */
  #move(known: Known, source: Source): void {
    known.source = source;
    const node = this.#nodeOf(source);
    if (node === known.node) return;
    this.#leave(known);
    known.node = node;
    // What another node's job was is not this one's.
    known.job = '';
    node.gpus.add(known);
  }

  #nodeOf(source: Source): KnownNode {
    const name = `${source.cluster}/${source.node}`;
    let node = this.#nodes.get(name);
    if (node === undefined) {
      node = { name, source, gpus: new Set() };
      this.#nodes.set(name, node);
    }
    node.source = source;
    return node;
  }

  #forget(known: Known): void {
    this.#gpus.delete(known.uuid);
    this.#leave(known);
  }

  #leave(known: Known): void {
    known.node.gpus.delete(known);
    if (known.node.gpus.size === 0) this.#nodes.delete(known.node.name);
  }

  #programOf({ source, dictionary }: Block): Program {
    let programs = this.#programs.get(source);
    if (programs === undefined) {
      programs = new WeakMap();
      this.#programs.set(source, programs);
    }
    let program = programs.get(dictionary);
    if (program === undefined) {
      program = { gpus: compilePeerReads(source, dictionary), lookedMs: Number.NEGATIVE_INFINITY };
      programs.set(dictionary, program);
    }
    return program;
  }
}
