import type { Logger } from '#shared/logging/logger.ts';
import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { AlertingOptions } from './alerts/alerting.ts';
import type { AssetBook, AssetGroups, AssetLevel } from './enrich/asset-book.ts';
import type { IngestServer } from './ingest/ingest-server.ts';
import type { NodeMarks } from './node-marks.ts';
import type { LatestTable } from './store/latest.ts';
import { tickContext } from './tick-context.ts';

export interface AlertingInputs {
  readonly assets: AssetBook;
  readonly latest: LatestTable;
  readonly marks: NodeMarks;
  /** Undefined until agents may connect. */
  readonly ingest: () => Pick<IngestServer, 'command'> | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** For so long the nodes of all pools are counted once: thousands of actions that wait ask for theirs each second. */
const COUNTED_MS = 1_000;

/** What alerting asks of the other stages: who is in which rack, what is marked, who can be told to do something. */
export function alertingInputs({ assets, latest, marks, ingest, clock, logger }: AlertingInputs) {
  const contextOf = tickContext(assets);
  const sourceOf = (cluster: string, node: string): Source =>
    latest.find(cluster, node)?.source ?? unseen(cluster, node);
  const poolOf = (cluster: string, node: string): string => assets.poolOf(sourceOf(cluster, node)) ?? '';
  const connected = (cluster: string, node: string): boolean =>
    latest.find(cluster, node)?.connected ?? false;
  let pools: Pools = { sizes: new Map(), out: new Map() };
  let countedMs = Number.NEGATIVE_INFINITY;
  const counted = (): Pools => {
    if (clock.monotonic() - countedMs >= COUNTED_MS) {
      countedMs = clock.monotonic();
      pools = { sizes: new Map(), out: new Map() };
      for (const { source } of latest.nodes()) {
        const key = keyOf(source.cluster, poolOf(source.cluster, source.node));
        pools.sizes.set(key, (pools.sizes.get(key) ?? 0) + 1);
      }
      for (const { state, cluster, node } of marks.list()) {
        if (state === 'degraded') continue;
        const key = keyOf(cluster, poolOf(cluster, node));
        const nodes = pools.out.get(key);
        if (nodes === undefined) pools.out.set(key, [node]);
        else nodes.push(node);
      }
    }
    return pools;
  };
  return {
    contextOf: (cluster, node, gpuUuid) => {
      const source = sourceOf(cluster, node);
      return { ...contextOf(source, '', ''), ...(gpuUuid !== '' && contextOf(source, '', gpuUuid)) };
    },
    groupsOf: (cluster, node) => groupsIn(assets.groupsOf(sourceOf(cluster, node)), cluster),
    hears: (cluster, node) => latest.find(cluster, node) !== undefined,
    connected,
    marks: () => marks.list(),
    fleet: {
      executorDeps: {
        marks: {
          get: (cluster, node) => marks.get({ cluster, node }),
          set: (cluster, node, mark) => marks.set({ cluster, node }, mark),
          clear: (cluster, node) => marks.withdraw({ cluster, node }, 'undone', 'gpufleet'),
        },
        agents: {
          connected,
          command: async (...order) =>
            (await ingest()?.command(...order)) ?? { outcome: 'away', output: 'no agent is connected yet' },
        },
        ...{ clock, logger },
      },
      poolOf,
      nodesOfPool: (cluster, pool) => counted().sizes.get(keyOf(cluster, pool)) ?? 0,
      outOtherwise: (cluster, pool) => counted().out.get(keyOf(cluster, pool)) ?? [],
    },
  } satisfies Pick<AlertingOptions, 'contextOf' | 'groupsOf' | 'connected' | 'hears' | 'marks' | 'fleet'>;
}

/** By `keyOf` cluster and pool. */
interface Pools {
  readonly sizes: Map<string, number>;
  /** Nodes that are drained or in maintenance. */
  readonly out: Map<string, string[]>;
}

function keyOf(cluster: string, pool: string): string {
  return `${cluster}\n${pool}`;
}

/** What operators marked and no agent has said anything of since the start. */
function unseen(cluster: string, node: string): Source {
  return { cluster, node, externalLabels: [] };
}

function groupsIn(
  groups: AssetGroups,
  cluster: string,
): Record<AssetLevel, readonly string[]> & { cluster: string[] } {
  return { ...groups, cluster: [cluster] };
}
