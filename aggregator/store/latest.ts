import { counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Dictionary, Labels } from '#shared/model/dictionary.ts';
import { type GpuSlots, gpusOf } from './gpu-slots.ts';

export interface LatestTableOptions {
  readonly clock: Clock;
  readonly registry: Registry;
  /** Most nodes kept; 20,000 by default. */
  readonly maxNodes?: number;
  /** Most GPUs kept of one node; 64 by default. */
  readonly maxGpusPerNode?: number;
  /** Most groups kept of one node, the one with the oldest tick goes first; 256 by default. */
  readonly maxGroupsPerNode?: number;
  /** A node that has been away for so long is forgotten, ms; 24 h by default. */
  readonly forgetAfterMs?: number;
}

/** Who connected; what ingest knows of an agent. */
export interface ConnectedPeer {
  readonly source: Source;
  readonly address: string;
  readonly agentVersion: string;
  readonly machineId: string;
  readonly clockSkewSeconds: number;
}

/** The newest tick of one group. */
export interface LatestGroup {
  readonly dictionary: Dictionary;
  readonly values: Float64Array;
  readonly states: Uint8Array;
  /** Unix ms of the tick. */
  timestampMs: number;
}

export interface LatestGpu {
  readonly node: LatestNode;
  readonly gpu: string;
  readonly uuid: string;
  readonly model: string;
  /** What gpu_info says beyond identity: driver, serial, PCI id ... */
  readonly labels: Labels;
  /** Where its series are. */
  readonly places: readonly { readonly group: LatestGroup; readonly slots: GpuSlots }[];
}

export type NodeState = 'up' | 'stale' | 'down';

export interface LatestNode {
  readonly source: Source;
  readonly peer: ConnectedPeer;
  readonly connected: boolean;
  readonly connectedAtMs: number;
  /** Unix ms of the newest live tick; 0 before the first. */
  readonly lastSampleMs: number;
  readonly state: NodeState;
  readonly groups: readonly LatestGroup[];
  readonly gpus: readonly LatestGpu[];
}

/** A node whose newest tick is older than this many intervals is stale. */
const STALE_INTERVALS = 3;
/** For the way from agent to here. */
const STALE_SLACK_MS = 1_000;
const SWEEP_EVERY_MS = 60_000;

/**
 * The newest value of every series of the fleet, in memory. A tick is two array copies; what a query asks for is
 * looked up when it asks. A tick older than the one that is there changes nothing, whatever lane brought it.
 */
export class LatestTable {
  readonly #clock: Clock;
  readonly #maxNodes: number;
  readonly #maxGpusPerNode: number;
  readonly #maxGroupsPerNode: number;
  readonly #forgetAfterMs: number;
  readonly #nodes = new Map<string, NodeEntry>();
  /** The entry of each stream's source, so that the hot path compares no names. */
  readonly #bySource = new WeakMap<Source, NodeEntry>();
  readonly #byUuid = new Map<string, NodeEntry>();
  readonly #refused;
  #sweptAtMs = 0;
  /** Sorted once for all pages, and by name; dropped when a node comes or goes. */
  #sorted: readonly NodeEntry[] | undefined;
  #byName: ReadonlyMap<string, LatestNode> | undefined;

  constructor(options: LatestTableOptions) {
    this.#clock = options.clock;
    this.#maxNodes = options.maxNodes ?? 20_000;
    this.#maxGpusPerNode = options.maxGpusPerNode ?? 64;
    this.#maxGroupsPerNode = options.maxGroupsPerNode ?? 256;
    this.#forgetAfterMs = options.forgetAfterMs ?? 86_400_000;
    this.#refused = counter(options.registry, {
      name: 'gpufleet_latest_refused_total',
      help: 'Nodes, groups and GPUs not kept in the live table because its limit was reached.',
      labelNames: ['what'],
    });
    const states = (): Record<NodeState, number> => {
      const counts = { up: 0, stale: 0, down: 0 };
      for (const node of this.#nodes.values()) counts[node.state]++;
      return counts;
    };
    gauge(options.registry, {
      name: 'gpufleet_nodes',
      help: 'Nodes known, by state.',
      labelNames: ['state'],
      collect() {
        for (const [state, count] of Object.entries(states())) this.set({ state }, count);
      },
    });
  }

  connected(peer: ConnectedPeer): void {
    this.#sweep();
    const key = nodeKey(peer.source);
    let entry = this.#nodes.get(key);
    if (!entry) {
      if (this.#nodes.size >= this.#maxNodes) {
        this.#refused.inc({ what: 'node' });
        return;
      }
      const limits = { gpus: this.#maxGpusPerNode, groups: this.#maxGroupsPerNode };
      entry = new NodeEntry(this.#clock, peer, limits, (what) => this.#refused.inc({ what }));
      this.#nodes.set(key, entry);
      this.#sorted = this.#byName = undefined;
    }
    entry.connect(peer);
    this.#bySource.set(peer.source, entry);
  }

  /** The end of a stream; nothing where another stream of the node has taken over. */
  disconnected(source: Source): void {
    this.#bySource.get(source)?.disconnect(source);
  }

  apply(block: Block): void {
    const entry = this.#bySource.get(block.source);
    if (!entry) return;
    const before = entry.gpus;
    if (!entry.apply(block)) return;
    this.#forgetUuids(before, entry);
    for (const { uuid } of entry.gpus) if (uuid !== '') this.#byUuid.set(uuid, entry);
  }

  /** Every node, by cluster and name. */
  nodes(): readonly LatestNode[] {
    this.#sweep();
    this.#sorted ??= [...this.#nodes.values()].sort((a, b) =>
      nodeKey(a.source) < nodeKey(b.source) ? -1 : 1,
    );
    return this.#sorted;
  }

  /** By name; where two clusters have it, the first by cluster. */
  node(name: string): LatestNode | undefined {
    const nodes = this.nodes();
    // Of two with one name the first is set last, and stays.
    this.#byName ??= new Map(nodes.toReversed().map((entry) => [entry.source.node, entry]));
    return this.#byName.get(name);
  }

  /** Nodes whose agents are connected. */
  get connectedCount(): number {
    let count = 0;
    for (const { connected } of this.#nodes.values()) if (connected) count++;
    return count;
  }

  /** The one node of that name in a cluster. */
  find(cluster: string, node: string): LatestNode | undefined {
    return this.#nodes.get(nodeKey({ cluster, node }));
  }

  gpu(uuid: string): LatestGpu | undefined {
    return this.#byUuid.get(uuid)?.gpus.find((gpu) => gpu.uuid === uuid);
  }

  #sweep(): void {
    const now = this.#clock.monotonic();
    if (now - this.#sweptAtMs < SWEEP_EVERY_MS) return;
    this.#sweptAtMs = now;
    for (const [key, entry] of this.#nodes) {
      if (entry.connected || now - entry.changedAt < this.#forgetAfterMs) continue;
      this.#nodes.delete(key);
      this.#forgetUuids(entry.gpus, entry);
      this.#sorted = this.#byName = undefined;
    }
  }

  /** A GPU that another node has by now stays that node's. */
  #forgetUuids(gpus: readonly LatestGpu[], entry: NodeEntry): void {
    for (const { uuid } of gpus) if (this.#byUuid.get(uuid) === entry) this.#byUuid.delete(uuid);
  }
}

/** Sorts the GPUs of a node as lists show them: by index, then by UUID. */
export function gpuOrder({ gpu, uuid }: { readonly gpu: string; readonly uuid: string }): string {
  return `${gpu.padStart(4, '0')}\n${uuid}`;
}

class NodeEntry implements LatestNode {
  readonly #clock: Clock;
  readonly #limits: { readonly gpus: number; readonly groups: number };
  readonly #onRefused: (what: 'gpu' | 'group') => void;
  readonly #groups = new Map<string, LatestGroup>();
  #gpus: readonly LatestGpu[] | undefined;
  peer: ConnectedPeer;
  connected = false;
  connectedAtMs = 0;
  lastSampleMs = 0;
  /** Longest interval of its groups. */
  #intervalMs = 0;
  /** Monotonic ms of the last live tick, and of the last change of the connection. */
  #heardAt = 0;
  changedAt = 0;

  constructor(
    clock: Clock,
    peer: ConnectedPeer,
    limits: { readonly gpus: number; readonly groups: number },
    onRefused: (what: 'gpu' | 'group') => void,
  ) {
    this.#clock = clock;
    this.peer = peer;
    this.#limits = limits;
    this.#onRefused = onRefused;
  }

  get source(): Source {
    return this.peer.source;
  }

  get groups(): readonly LatestGroup[] {
    return [...this.#groups.values()];
  }

  get state(): NodeState {
    if (!this.connected) return 'down';
    const silentMs = this.#clock.monotonic() - this.#heardAt;
    return this.#intervalMs > 0 && silentMs > STALE_INTERVALS * this.#intervalMs + STALE_SLACK_MS
      ? 'stale'
      : 'up';
  }

  /** Put together when asked for: which GPUs there are changes with a dictionary, not with a tick. */
  get gpus(): readonly LatestGpu[] {
    this.#gpus ??= this.#findGpus();
    return this.#gpus;
  }

  connect(peer: ConnectedPeer): void {
    this.peer = peer;
    this.connected = true;
    this.connectedAtMs = this.#clock.now();
    this.changedAt = this.#clock.monotonic();
    this.#heardAt = this.changedAt;
  }

  disconnect(source: Source): void {
    if (this.peer.source !== source) return;
    this.connected = false;
    this.changedAt = this.#clock.monotonic();
  }

  /** Takes a tick; true where it brought a new dictionary. */
  apply({ dictionary, timestampMs, values, states, live }: Block): boolean {
    if (live) {
      this.#heardAt = this.#clock.monotonic();
      // The live lane is in order: an earlier time is a clock that stepped back, not an old tick.
      this.lastSampleMs = timestampMs;
    }
    const group = this.#groups.get(dictionary.group);
    if (group && !live && timestampMs < group.timestampMs) return false;
    if (group?.dictionary === dictionary) {
      group.values.set(values);
      group.states.set(states);
      group.timestampMs = timestampMs;
      return false;
    }
    this.#groups.set(dictionary.group, {
      dictionary,
      values: values.slice(),
      states: states.slice(),
      timestampMs,
    });
    if (this.#groups.size > this.#limits.groups) this.#dropOldestGroup();
    this.#intervalMs = Math.max(...this.groups.map((one) => one.dictionary.intervalMs));
    this.#gpus = undefined;
    return true;
  }

  #dropOldestGroup(): void {
    const [oldest] = [...this.#groups].reduce((a, b) => (b[1].timestampMs < a[1].timestampMs ? b : a));
    this.#groups.delete(oldest);
    this.#onRefused('group');
  }

  #findGpus(): readonly LatestGpu[] {
    const places = new Map<
      string,
      { slots: GpuSlots; places: { group: LatestGroup; slots: GpuSlots }[]; labels: Labels }
    >();
    for (const group of this.#groups.values()) {
      for (const slots of gpusOf(group.dictionary)) {
        const key = slots.uuid || slots.gpu;
        const known = places.get(key);
        if (known) {
          known.places.push({ group, slots });
          if (slots.info.length > known.labels.length) known.labels = slots.info;
        } else if (places.size < this.#limits.gpus)
          places.set(key, { slots, places: [{ group, slots }], labels: slots.info });
        else this.#onRefused('gpu');
      }
    }
    return [...places.values()]
      .map(({ slots: { gpu, uuid, model }, places: found, labels }) => ({
        node: this,
        gpu,
        uuid,
        model,
        labels,
        places: found,
      }))
      .sort((a, b) => (gpuOrder(a) < gpuOrder(b) ? -1 : 1));
  }
}

function nodeKey({ cluster, node }: Pick<Source, 'cluster' | 'node'>): string {
  return `${cluster}\n${node}`;
}
