import { describeError } from '#shared/errors/fleet-error.ts';
import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Dictionary, Labels, Series } from '#shared/model/dictionary.ts';
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
  readonly gpus: readonly {
    readonly gpu: string;
    readonly uuid: string;
    readonly model: string;
    readonly score: number;
  }[];
}

/** Hands a block to the store. */
type Offer = (block: Block) => Promise<{ readonly state: 'accepted' | 'deferred' }>;

interface Held {
  readonly block: Block;
  readonly samples: number;
}

/**
 * Writes what the aggregator itself concludes: gpufleet_node_up for each node that it knows, gpu_health_score
 * for each GPU. Agents' series are the agents' alone: a node's death is a zero here, never a marker there.
 */
export class DerivedSeries {
  readonly #offer: Offer;
  readonly #logger: Logger;
  readonly #dictionaries = new Map<
    string,
    { readonly source: Source; readonly key: string; readonly dictionary: Dictionary }
  >();
  #held: Held[] = [];
  #heldSamples = 0;
  readonly #dropped;

  constructor(offer: Offer, logger: Logger, registry: Registry) {
    this.#offer = offer;
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
  async write(timestampMs: number, nodes: Iterable<NodeFigures>): Promise<void> {
    const waiting = this.#held;
    this.#held = [];
    this.#heldSamples = 0;
    const blocks = [...waiting.map(({ block }) => block)];
    const seen = new Set<string>();
    for (const node of nodes) {
      const key = `${node.source.cluster}\n${node.source.node}`;
      seen.add(key);
      blocks.push(this.#blockOf(key, node, timestampMs));
    }
    for (const key of this.#dictionaries.keys()) if (!seen.has(key)) this.#dictionaries.delete(key);
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
    const dictionary = this.#dictionaryOf(key, node);
    const values = Float64Array.from([node.up ? 1 : 0, ...node.gpus.map(({ score }) => score)]);
    return {
      source: node.source,
      dictionary,
      timestampMs,
      values,
      states: new Uint8Array(values.length),
      live: true,
    };
  }

  #dictionaryOf(key: string, { source, gpus }: NodeFigures): Dictionary {
    const gpuKey = gpus.map(({ uuid, gpu, model }) => `${uuid}/${gpu}/${model}`).join('\n');
    const known = this.#dictionaries.get(key);
    if (known?.key === gpuKey && known.source === source) return known.dictionary;
    const dictionary = createDictionary('gpufleet', DERIVED_INTERVAL_MS, [
      series('gpufleet_node_up', [], '1 while the agent of the node is connected.'),
      ...gpus.map(({ gpu, uuid, model }) =>
        series('gpu_health_score', gpuLabels(gpu, uuid, model), 'Health of the GPU, 0 to 100.'),
      ),
    ]);
    this.#dictionaries.set(key, { source, key: gpuKey, dictionary });
    return dictionary;
  }
}

function series(name: string, labels: Labels, help: string): Series {
  return { name, labels, kind: 'gauge', decimals: 6, help, unit: '' };
}

function gpuLabels(gpu: string, uuid: string, model: string): Labels {
  const labels: [string, string][] = [
    ['gpu', gpu],
    ['model', model],
    ['uuid', uuid],
  ];
  return labels.filter(([, value]) => value !== '');
}
