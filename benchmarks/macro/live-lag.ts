import { setTimeout as sleep } from 'node:timers/promises';

interface NodesAnswer {
  readonly nodes?: readonly { readonly last_sample_at?: string }[];
}

/** How old the newest sample of a node is beyond what its interval explains, at the aggregator's own API. */
export interface LiveLag {
  /** Ends the watch once every node has sent something. The worst of all nodes at all looks, seconds; 0 where none was ever late. */
  stop(): Promise<number>;
}

const LOOK_EVERY_MS = 200;
const FIRST_SAMPLE_MS = 20_000;
const MOST_NODES = 500;

/** Looks every 200 ms, from the moment when every node has sent a sample of its own that is younger than `sinceMs`. */
export function watchLiveLag(
  api: string,
  {
    nodes,
    intervalMs,
    sinceMs,
  }: { readonly nodes: number; readonly intervalMs: number; readonly sinceMs: number },
): LiveLag {
  let over = false;
  let deadline = Number.POSITIVE_INFINITY;
  let worstMs = 0;
  let all = false;
  const watch = (async () => {
    while (!over || (!all && performance.now() < deadline)) {
      const response = await fetch(`${api}/api/v1/nodes?page_size=${MOST_NODES}`);
      if (!response.ok)
        throw new Error(`the aggregator answers ${response.status}: ${await response.text()}`);
      const answer = (await response.json()) as NodesAnswer;
      const newest = (answer.nodes ?? []).map(({ last_sample_at }) => Date.parse(last_sample_at ?? ''));
      all ||= newest.length === nodes && newest.every((at) => at >= sinceMs);
      if (all) worstMs = Math.max(worstMs, ...newest.map((at) => Date.now() - at - intervalMs));
      await sleep(LOOK_EVERY_MS);
    }
    if (!all) throw new Error('not every node has sent a live sample');
    return worstMs / 1000;
  })();
  // Whoever stops it hears of a failure.
  watch.catch(() => {});
  return {
    stop: () => {
      over = true;
      deadline = performance.now() + FIRST_SAMPLE_MS;
      return watch;
    },
  };
}
