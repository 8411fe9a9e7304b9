/** What Slurm says of a node. */
export interface SlurmNode {
  /** Upper case, without the marks that scontrol puts behind them: IDLE, MIXED, DOWN, DRAIN, NOT_RESPONDING ... */
  readonly states: readonly string[];
  /** Empty where there is none. */
  readonly reason: string;
  /** Who set the reason; empty where nobody did. */
  readonly by: string;
}

/**
 * Reads `scontrol show node --oneliner`: `NodeName=a ... State=IDLE+DRAIN ... Reason=bad GPU [root@2026-01-01T00:00:00]`
 * (scontrol(1); as Slurm 22.05 prints it). Undefined where it is no node, or another.
 */
export function parseNodeLine(text: string, name: string): SlurmNode | undefined {
  const line = text.split('\n').find((one) => one.startsWith(`NodeName=${name} `));
  const states = line && / State=(\S+)/.exec(line)?.[1];
  if (!states) return undefined;
  const [, reason = '', by = ''] = / Reason=(.*?) \[([^@\]\s]*)@[\dT:-]+\]/.exec(line) ?? [];
  return { states: statesOf(states.split('+')), reason, by };
}

/**
 * Reads `scontrol show node --json`. `state` is a list since Slurm 23.02 (`["IDLE","DRAIN"]`), before that a word
 * with `state_flags` beside it (OpenAPI plugins v0.0.38 and v0.0.39). Undefined where it names no such node.
 */
export function parseNodeJson(text: string, name: string): SlurmNode | undefined {
  const document = JSON.parse(text) as { nodes?: unknown };
  const nodes = Array.isArray(document.nodes) ? (document.nodes as Record<string, unknown>[]) : [];
  const node = nodes.find((one) => one.name === name);
  if (!node) return undefined;
  const states = statesOf([...words(node.state), ...words(node.state_flags)]);
  const [reason, by] = [node.reason, node.reason_set_by_user].map((value) =>
    typeof value === 'string' ? value : '',
  );
  return { states, reason: reason!, by: by! };
}

function words(value: unknown): string[] {
  return (Array.isArray(value) ? value : [value]).filter((one) => typeof one === 'string');
}

/** `*`, `~`, `#`, `!`, `%`, `$`, `@`, `^`, `-` behind a state say that it does not answer, sleeps, boots and so on. */
function statesOf(states: readonly string[]): string[] {
  return states.map((state) => state.toUpperCase().replace(/[^A-Z_]+$/, '')).filter((state) => state !== '');
}
