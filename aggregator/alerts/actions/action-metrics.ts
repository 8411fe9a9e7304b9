import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { ActionDocument } from './action-document.ts';
import type { ActionTable } from './action-table.ts';
import type { PoolShares } from './pool-shares.ts';

/** Pools with a label value of their own; the rest is one. */
const MAX_POOLS = 200;

/** What the policies do, in figures. Policies, states and kinds are few: all come from the file. */
export class ActionMetrics {
  readonly #states: Counter<'policy' | 'state'>;
  readonly #retries: Counter<'kind'>;
  readonly #refused: Counter<'reason'>;

  constructor(registry: Registry, table: ActionTable, shares: PoolShares) {
    this.#states = counter(registry, {
      name: 'gpufleet_actions_total',
      help: 'Actions that came to a state, by policy. Each is counted by the aggregator that brought it there.',
      labelNames: ['policy', 'state'],
    });
    this.#retries = counter(registry, {
      name: 'gpufleet_action_retries_total',
      help: 'Tries of steps that came to nothing as the other side was away, by kind of step.',
      labelNames: ['kind'],
    });
    this.#refused = counter(registry, {
      name: 'gpufleet_actions_refused_total',
      help: 'Alerts for which no action could be made, by reason; those that still fire are tried again.',
      labelNames: ['reason'],
    });
    gauge(registry, {
      name: 'gpufleet_actions_pending',
      help: 'Actions that wait: for room in their pool, a cool-down, a window, or another side that is away.',
      collect() {
        this.set(count(table, 'pending'));
      },
    });
    gauge(registry, {
      name: 'gpufleet_actions_awaiting_approval',
      help: 'Actions that wait for an operator.',
      collect() {
        this.set(count(table, 'awaiting_approval'));
      },
    });
    gauge(registry, {
      name: 'gpufleet_nodes_taken_out',
      help: 'Nodes that actions keep out of service, by pool; the same from each aggregator.',
      labelNames: ['pool'],
      collect() {
        this.reset();
        for (const [pool, nodes] of outByPool(shares)) this.set({ pool }, nodes);
      },
    });
  }

  entered({ policy, state }: ActionDocument): void {
    this.#states.inc({ policy, state });
  }

  retried(kind: string): void {
    this.#retries.inc({ kind });
  }

  refused(reason: 'too_many' | 'queue_full'): void {
    this.#refused.inc({ reason });
  }
}

function count(table: ActionTable, state: ActionDocument['state']): number {
  return table.values().filter((action) => action.state === state).length;
}

function outByPool(shares: PoolShares): Map<string, number> {
  const out = new Map<string, number>();
  for (const { pool, nodes } of shares.pools()) {
    const label = out.has(pool) || out.size < MAX_POOLS ? pool : '_other';
    out.set(label, (out.get(label) ?? 0) + Object.keys(nodes).length);
  }
  return out;
}
