import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Dictionary, Labels, Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';

/** Derived series are written on this grid, Unix ms. */
export const DERIVED_INTERVAL_MS = 10_000;
/** How long they are held while the store is down; the oldest then go, counted. */
const HOLD_MS = 15 * 60_000;
/** And at most this many samples. */
const MAX_HELD_SAMPLES = 1_000_000;

/** What is derived about one node at one moment. */
export interface NodeFigures {
  readonly source: Source;
  readonly up: boolean;
  /** NaN where none of its GPUs is known. */
  readonly score: number;
  readonly gpus: readonly GpuFigures[];
}

/** Scores are NaN where too little is known to say. */
export interface GpuFigures {
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  readonly score: number;
  /** In the order of DIMENSIONS. */
  readonly dimensions: readonly number[];
  /** Number of the HealthState, 1 healthy to 5 flapping. */
  readonly state: number;
  readonly confidence: number;
  /** Strength of the open anomaly, 0 without one; 1 is the threshold. */
  readonly anomaly: number;
}

/** A pool, or the fleet: what has no node. */
export interface ScopeFigures {
  readonly scope: 'pool' | 'fleet';
  /** Of the pool; empty for the fleet. */
  readonly name: string;
  readonly score: number;
  /** By name of the state. */
  readonly gpus: Readonly<Record<string, number>>;
}

/** Label values of `gpufleet_health_score`, beside `all`. */
export const DIMENSIONS = ['memory', 'thermal', 'power', 'performance', 'reliability'] as const;

/** Hands a block to the store. */
type Offer = (block: Block) => Promise<{ readonly state: 'accepted' | 'deferred' }>;

interface Held {
  readonly block: Block;
  readonly samples: number;
}

/**
 * Writes what the aggregator itself concludes: whether a node is there, scores and states of GPUs, nodes, pools and
 * the fleet, what is unusual. Agents' series are the agents' alone: a node's death is a zero here, never a marker
 * there. `evaluate` sees each block of a node before the store does: alert rules on scores.
 */
export class DerivedSeries {
  readonly #offer: Offer;
  readonly #evaluate: (block: Block) => void;
  readonly #logger: Logger;
  readonly #dictionaries = new Map<
    string,
    { readonly source: Source; readonly key: string; readonly dictionary: Dictionary }
  >();
  #held: Held[] = [];
  #heldSamples = 0;
  readonly #dropped;

  constructor(offer: Offer, logger: Logger, registry: Registry, evaluate: (block: Block) => void = () => {}) {
    this.#offer = offer;
    this.#evaluate = evaluate;
    this.#logger = logger;
    this.#dropped = counter(registry, {
      name: 'gpufleet_derived_dropped_samples_total',
      help: 'Derived samples given up because the store was away for too long.',
    });
    const heldSamples = (): number => this.#heldSamples;
    gauge(registry, {
      name: 'gpufleet_derived_held_samples',
      help: 'Derived samples that wait for the store.',
      collect() {
        this.set(heldSamples());
      },
    });
  }

  /** Writes one moment of the grid, after what is held from earlier ones. */
  async write(
    timestampMs: number,
    nodes: Iterable<NodeFigures>,
    { cluster, scopes }: { readonly cluster: string; readonly scopes: readonly ScopeFigures[] },
  ): Promise<void> {
    const waiting = this.#held;
    this.#held = [];
    this.#heldSamples = 0;
    const blocks = [...waiting.map(({ block }) => block)];
    const seen = new Set<string>();
    for (const node of nodes) {
      const key = `${node.source.cluster}\n${node.source.node}`;
      seen.add(key);
      const block = this.#blockOf(key, node, timestampMs);
      this.#evaluate(block);
      blocks.push(block);
    }
    for (const key of this.#dictionaries.keys()) if (!seen.has(key)) this.#dictionaries.delete(key);
    if (scopes.length > 0) blocks.push(this.#scopeBlock(cluster, scopes, timestampMs));
    await Promise.all(
      blocks.map(async (block) => {
        const { state } = await this.#offer(block);
        if (state === 'deferred') this.#hold(block, timestampMs);
      }),
    ).catch((error: unknown) =>
      this.#logger.error({ cause: describeError(error) }, 'cannot write derived series'),
    );
  }

  #hold(block: Block, nowMs: number): void {
    const samples = block.values.length;
    if (nowMs - block.timestampMs > HOLD_MS || this.#heldSamples + samples > MAX_HELD_SAMPLES) {
      this.#dropped.inc(samples);
      return;
    }
    this.#held.push({ block, samples });
    this.#heldSamples += samples;
  }

  #blockOf(key: string, node: NodeFigures, timestampMs: number): Block {
    const values = [node.up ? 1 : 0, node.score];
    for (const { score, dimensions, state, confidence, anomaly } of node.gpus)
      values.push(score, ...dimensions, state, severityOf(state), confidence, anomaly);
    return blockFrom(node.source, this.#dictionaryOf(key, node), timestampMs, values);
  }

  #scopes: { readonly source: Source; readonly key: string; readonly dictionary: Dictionary } | undefined;

  #scopeBlock(cluster: string, scopes: readonly ScopeFigures[], timestampMs: number): Block {
    const values = scopes.flatMap(({ score, gpus }) => [score, ...Object.values(gpus)]);
    const key = JSON.stringify([
      cluster,
      scopes.map(({ scope, name, gpus }) => [scope, name, Object.keys(gpus)]),
    ]);
    if (this.#scopes?.key !== key) {
      const source = { cluster, node: '', externalLabels: [] };
      const dictionary = createDictionary('gpufleet', DERIVED_INTERVAL_MS, scopes.flatMap(scopeSeries));
      this.#scopes = { source, key, dictionary };
    }
    return blockFrom(this.#scopes.source, this.#scopes.dictionary, timestampMs, values);
  }

  #dictionaryOf(key: string, { source, gpus }: NodeFigures): Dictionary {
    const gpuKey = gpus.map(({ uuid, gpu, model }) => `${uuid}/${gpu}/${model}`).join('\n');
    const known = this.#dictionaries.get(key);
    if (known?.key === gpuKey && known.source === source) return known.dictionary;
    const dictionary = createDictionary('gpufleet', DERIVED_INTERVAL_MS, [
      series('gpufleet_node_up', [], '1 while the agent of the node is connected.'),
      series('gpufleet_node_health_score', [], 'Health of the node by its GPUs, 0 to 100.'),
      ...gpus.flatMap(gpuSeries),
    ]);
    this.#dictionaries.set(key, { source, key: gpuKey, dictionary });
    return dictionary;
  }
}

/** What is not known is absent, never zero. */
function blockFrom(
  source: Source,
  dictionary: Dictionary,
  timestampMs: number,
  figures: readonly number[],
): Block {
  const values = Float64Array.from(figures);
  const states = Uint8Array.from(values, (value) =>
    Number.isNaN(value) ? SlotState.Absent : SlotState.Present,
  );
  return { source, dictionary, timestampMs, values, states, live: true };
}

function series(name: string, labels: Labels, help: string): Series {
  return { name, labels, kind: 'gauge', decimals: 6, help, unit: '' };
}

function gpuSeries({ gpu, uuid, model }: GpuFigures): Series[] {
  const labels = labelsOf({ gpu, model, uuid });
  return [
    ...['all', ...DIMENSIONS].map((dimension) =>
      series(
        'gpufleet_health_score',
        labelsOf({ dimension, gpu, model, uuid }),
        'Health of the GPU, 0 to 100: as a whole and in each dimension.',
      ),
    ),
    series(
      'gpufleet_health_state',
      labels,
      '1 healthy, 2 degraded, 3 critical, 4 unknown, 5 flapping (held in the worse state).',
    ),
    series('gpufleet_health_severity', labels, '0 nothing to do, 1 degraded or flapping, 2 critical.'),
    series('gpufleet_health_confidence', labels, 'Share of the signals that is known, 0 to 1.'),
    series('gpufleet_anomaly_strength', labels, 'Of the open anomaly, 0 without one; 1 is the threshold.'),
  ];
}

function scopeSeries({ scope, name, gpus }: ScopeFigures): Series[] {
  const pool = scope === 'pool' ? { pool: name } : {};
  return [
    series(`gpufleet_${scope}_health_score`, labelsOf(pool), `Health of the ${scope} by its GPUs, 0 to 100.`),
    ...Object.keys(gpus).map((state) =>
      series(`gpufleet_${scope}_gpus`, labelsOf({ ...pool, state }), `GPUs of the ${scope} by health state.`),
    ),
  ];
}

const FLAPPING = 5;

function severityOf(state: number): number {
  return state === 3 ? 2 : state === 2 || state === FLAPPING ? 1 : 0;
}

/** Sorted by name; empty ones are left out. */
function labelsOf(labels: Readonly<Record<string, string>>): Labels {
  return Object.entries(labels)
    .filter(([, value]) => value !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
