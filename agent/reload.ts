import type { AgentConfig } from './config.ts';

/** What of a new configuration a running agent takes on, by setting. */
export interface ReloadPlan {
  /** Settings that are changed at once. */
  readonly live: readonly LiveSetting[];
  /** Settings that only a restart changes: they stay as they are. */
  readonly restart: readonly string[];
}

/** Changed while it runs: none of them is part of the node's identity, of the buffer or of the stream. */
const LIVE = ['collectors', 'collection_interval', 'log_level', 'expected_gpus', 'exporter.users'] as const;
export type LiveSetting = (typeof LIVE)[number];

/** Compares two configurations, both valid. The contents of files that they name are not looked at. */
export function planReload(before: AgentConfig, after: AgentConfig): ReloadPlan {
  const changed = changedSettings(before, after);
  const simulated = (config: AgentConfig): number | undefined =>
    (config.collectors.simulated || undefined)?.nodes;
  // Each simulated node is an agent with a buffer of its own.
  const nodes = simulated(before) === simulated(after) ? [] : ['collectors.simulated.nodes'];
  const isLive = (setting: string): setting is LiveSetting => (LIVE as readonly string[]).includes(setting);
  const live = changed.filter(isLive).filter((setting) => nodes.length === 0 || setting !== 'collectors');
  return { live, restart: [...changed.filter((setting) => !isLive(setting)), ...nodes] };
}

/** `running` with what the plan takes on from `after`: what the agent runs with from then on. */
export function takenOn(running: AgentConfig, after: AgentConfig, { live }: ReloadPlan): AgentConfig {
  const taken: Record<string, unknown> = { ...running };
  for (const setting of live) {
    if (setting === 'exporter.users') taken.exporter = { ...running.exporter, users: after.exporter.users };
    else taken[setting] = after[setting];
  }
  return taken as AgentConfig;
}

/** By top-level name; `exporter.listen` and so on within exporter. */
function changedSettings(before: AgentConfig, after: AgentConfig): string[] {
  const { exporter: a, ...rest } = before;
  const { exporter: b, ...others } = after;
  const within = differing(a, b).map((name) => `exporter.${name}`);
  return [...differing(rest, others), ...within];
}

function differing(a: object, b: object): string[] {
  const [left, right] = [a, b].map((one) => new Map<string, unknown>(Object.entries(one)));
  const names = new Set([...left!.keys(), ...right!.keys()]);
  return [...names].filter((name) => canonical(left!.get(name)) !== canonical(right!.get(name)));
}

/** The order in which a file names settings is no change. */
function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_key, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
        : part,
    ) ?? ''
  );
}
