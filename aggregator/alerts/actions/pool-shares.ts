import * as v from 'valibot';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { ControlStore } from '../control/control-store.ts';
import type { ActionDocument } from './action-document.ts';
import { allowedOut, type Policy } from './policy.ts';

const PREFIX = 'share/';
const MAX_CONFLICTS = 100;
/** A document of the store holds 64 KiB: so many nodes with names of 60 characters and one action each. */
export const MAX_OUT = 500;
const MAX_PARSED = 1_000;
/** Actions that hold one node. */
const MAX_HOLDERS = 8;

const share = v.object({
  /** Node to the actions that keep it out. */
  nodes: v.record(v.string(), v.array(v.string())),
});
type Share = v.InferOutput<typeof share>;

interface PoolSharesOptions {
  readonly control: ControlStore;
  /** 0 where the pool is not known: then nothing is taken out. */
  readonly nodesOfPool: (cluster: string, pool: string) => number;
  /** Nodes that are out of service for other reasons, as far as that is known. */
  readonly outOtherwise?: (cluster: string, pool: string) => Iterable<string>;
}

/** Nodes that are out, of one pool. */
interface PoolOut {
  readonly cluster: string;
  readonly pool: string;
  readonly nodes: Readonly<Record<string, readonly string[]>>;
}

/**
 * Who keeps which nodes of a pool out of service, under `share/<cluster>/<pool>`. One document for a pool, changed
 * by compare-and-set: of two aggregators that would each take the last place, one is told that it was taken.
 */
export class PoolShares {
  readonly #options: PoolSharesOptions;
  /** Asked for each action that waits: read once for each revision. */
  readonly #parsed = new Map<string, { share: Share; revision: number }>();

  constructor(options: PoolSharesOptions) {
    this.#options = options;
  }

  /** Undefined where there is room for the action's node, as last known here; else a sentence. */
  blocked(action: Pick<ActionDocument, 'target' | 'pool'>, policy: Policy): string | undefined {
    return this.#blocked(action, policy, this.#read(action.target.cluster, action.pool).share);
  }

  /** How many more nodes of the pool may go out, as last known here. */
  room(cluster: string, pool: string, policy: Policy): number {
    const { nodes } = this.#read(cluster, pool).share;
    return allowedOut(this.#options.nodesOfPool(cluster, pool), policy) - this.#out(cluster, pool, nodes);
  }

  holds(action: Pick<ActionDocument, 'id' | 'target' | 'pool'>): boolean {
    const { nodes } = this.#read(action.target.cluster, action.pool).share;
    return nodes[action.target.node]?.includes(action.id) ?? false;
  }

  /** Takes a place, or says why there is none; undefined where the action has it. Throws `unavailable`. */
  async reserve(
    action: Pick<ActionDocument, 'id' | 'target' | 'pool'>,
    policy: Policy,
  ): Promise<string | undefined> {
    const { node } = action.target;
    let why: string | undefined;
    await this.#change(action, ({ nodes }) => {
      why = undefined;
      const holders = nodes[node] ?? [];
      if (holders.includes(action.id)) return undefined;
      why = this.#blocked(action, policy, { nodes });
      return why === undefined ? { nodes: { ...nodes, [node]: [...holders, action.id] } } : undefined;
    });
    return why;
  }

  /** Takes the place of an action whose node is out and came into this pool: whether there is room or not. */
  async carry(action: Pick<ActionDocument, 'id' | 'target' | 'pool'>): Promise<void> {
    const { node } = action.target;
    await this.#change(action, ({ nodes }) => {
      const holders = nodes[node] ?? [];
      return holders.includes(action.id)
        ? undefined
        : { nodes: { ...nodes, [node]: [...holders, action.id] } };
    });
  }

  /** Gives the place back; nothing where there is none. Throws `unavailable`. */
  async free(action: Pick<ActionDocument, 'id' | 'target' | 'pool'>): Promise<void> {
    const { node } = action.target;
    await this.#change(action, ({ nodes }) => {
      const holders = nodes[node];
      if (!holders?.includes(action.id)) return undefined;
      const { [node]: _, ...others } = nodes;
      const left = holders.filter((one) => one !== action.id);
      return { nodes: left.length === 0 ? others : { ...others, [node]: left } };
    });
  }

  pools(): PoolOut[] {
    return this.#options.control.entries(PREFIX).flatMap(({ key, value }) => {
      const parsed = v.safeParse(share, value);
      const slash = key.indexOf('/', PREFIX.length);
      if (!parsed.success || slash < 0) return [];
      const cluster = key.slice(PREFIX.length, slash);
      return [
        { cluster: decodePart(cluster), pool: decodePart(key.slice(slash + 1)), nodes: parsed.output.nodes },
      ];
    });
  }

  #blocked(
    action: Pick<ActionDocument, 'target' | 'pool'>,
    policy: Policy,
    { nodes }: Share,
  ): string | undefined {
    const { cluster, node } = action.target;
    const holders = nodes[node];
    if (holders !== undefined)
      return holders.length < MAX_HOLDERS ? undefined : `${holders.length} actions keep the node out already`;
    const size = this.#options.nodesOfPool(cluster, action.pool);
    const pool = action.pool === '' ? 'nodes without a pool' : `pool ${action.pool}`;
    if (size <= 0) return `the size of ${pool} is not known`;
    const allowed = Math.min(allowedOut(size, policy), MAX_OUT);
    // A node that is out already, for another's reason, is none the more for our action.
    const others = new Set(this.#options.outOtherwise?.(cluster, action.pool));
    others.delete(node);
    for (const one of Object.keys(nodes)) others.add(one);
    return others.size < allowed
      ? undefined
      : `${others.size} of ${size} nodes of ${pool} are out, and policy ${policy.name} allows ${allowed}`;
  }

  #out(cluster: string, pool: string, nodes: Share['nodes']): number {
    return new Set([...Object.keys(nodes), ...(this.#options.outOtherwise?.(cluster, pool) ?? [])]).size;
  }

  #read(cluster: string, pool: string): { share: Share; revision: number } {
    const key = shareKey(cluster, pool);
    const entry = this.#options.control.get(key);
    if (entry === undefined) return { share: { nodes: {} }, revision: 0 };
    const kept = this.#parsed.get(key);
    if (kept?.revision === entry.revision) return kept;
    const parsed = v.safeParse(share, entry.value);
    // What cannot be read may stand for any number of nodes: nothing more is taken out.
    if (!parsed.success)
      throw new FleetError('data_loss', `Cannot read which nodes of pool ${pool} are out: it is no share`);
    const read = { share: parsed.output, revision: entry.revision };
    if (this.#parsed.size >= MAX_PARSED) this.#parsed.clear();
    this.#parsed.set(key, read);
    return read;
  }

  async #change(
    { target, pool }: Pick<ActionDocument, 'target' | 'pool'>,
    step: (share: Share) => Share | undefined,
  ): Promise<void> {
    const key = shareKey(target.cluster, pool);
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts++) {
      const { share: found, revision } = this.#read(target.cluster, pool);
      const next = step(found);
      if (next === undefined) return;
      if ((await this.#options.control.put(key, next, revision)) !== undefined) return;
    }
    throw new FleetError(
      'unavailable',
      `Cannot change the share of pool ${pool}: others change it all the time`,
    );
  }
}

function shareKey(cluster: string, pool: string): string {
  return `${PREFIX}${encodeURIComponent(cluster)}/${encodeURIComponent(pool)}`;
}

function decodePart(part: string): string {
  return decodeURIComponent(part);
}
