import type { GateFacts, GpuFacts } from '../control/gate-facts.ts';

/** Every reason for which the job gate closes, worst first: name for --ignore, exit code, and what it means. */
export const CONDITIONS = [
  ['not-running', 3, 'no agent is running here'],
  ['no-answer', 4, 'the agent does not answer in time'],
  ['missing', 10, 'fewer GPUs than there should be'],
  ['lost', 11, 'a GPU does not answer, or fell off the bus'],
  ['fatal', 12, 'a fatal Xid or RAS error since boot that no passed diagnostic cleared'],
  ['unrepairable', 13, 'row remapping failed, or memory cannot be repaired: replace the GPU'],
  ['remap-pending', 14, 'a row remapping or page retirement waits for a reset'],
  ['ecc', 15, 'uncorrected ECC errors since the driver was loaded'],
  ['recovery', 16, 'the driver asks for a reset or reboot'],
  ['diagnostic', 17, 'the last diagnostic failed'],
  ['stale', 20, 'a GPU was not read lately'],
  ['paused', 21, 'collecting is paused'],
  ['aggregator', 22, 'the aggregator is not connected (--require-aggregator)'],
] as const;

export type ConditionName = (typeof CONDITIONS)[number][0];

export interface Verdict {
  /** `ok`, or what is wrong. */
  readonly condition: ConditionName | 'ok';
  /** Exit code. */
  readonly code: number;
  /** One line. */
  readonly reason: string;
  /** GPU index, where it is about one. */
  readonly gpu?: string;
}

export interface GateQuestion {
  /** How many GPUs there must be; undefined: as many as the node should have. */
  readonly gpus: number | undefined;
  readonly requireAggregator: boolean;
  readonly ignore: ReadonlySet<string>;
}

/** A GPU is stale after so many intervals of its source ... */
const STALE_INTERVALS = 3;
/** ... and never before: a read may take its time. */
const STALE_MS = 30_000;

/** The first thing that is wrong, worst first, or `ok`. */
export function judge(facts: GateFacts, question: GateQuestion): Verdict {
  const found = [
    ...(facts.paused_until_ms === null ? [] : [pausedVerdict(facts.paused_until_ms)]),
    ...missing(facts, question.gpus),
    ...facts.gpus.flatMap((gpu) => troublesOf(gpu, facts)),
    ...(question.requireAggregator && !facts.aggregator_connected
      ? [verdictOf('aggregator', 'the agent has no connection to an aggregator')]
      : []),
  ].filter(({ condition }) => !question.ignore.has(condition));
  const paused = found.find(({ condition }) => condition === 'paused');
  const worst = CONDITIONS.map(([name]) => found.find(({ condition }) => condition === name)).find(Boolean);
  // While it is paused nothing about the GPUs is known that could be worse.
  if (paused ?? worst) return (paused ?? worst)!;
  const count = facts.gpus.filter(isThere).length;
  return { condition: 'ok', code: 0, reason: `ok: ${count} ${count === 1 ? 'GPU' : 'GPUs'}` };
}

export function verdictOf(condition: ConditionName, reason: string, gpu?: string): Verdict {
  const code = CONDITIONS.find(([name]) => name === condition)![1];
  return { condition, code, reason: `${condition}: ${reason}`, ...(gpu !== undefined && { gpu }) };
}

function pausedVerdict(untilMs: number): Verdict {
  return verdictOf('paused', `collecting is paused until ${new Date(untilMs).toISOString()}`);
}

function missing({ gpus, expected_gpus: expected }: GateFacts, asked: number | undefined): Verdict[] {
  const there = gpus.filter(({ interval_ms, lost }) => interval_ms !== null || lost).length;
  const wanted = asked ?? expected.count;
  if (wanted === null) return there > 0 ? [] : [verdictOf('missing', 'no GPU was ever seen on this node')];
  if (there >= wanted) return [];
  const from = asked === undefined ? expected.from : '--gpus';
  return [verdictOf('missing', `${there} of ${wanted} GPUs are there (${from})`)];
}

function isThere({ last_read_ms, lost }: GpuFacts): boolean {
  return last_read_ms !== null && !lost;
}

function troublesOf(facts: GpuFacts, { now_ms: now }: GateFacts): Verdict[] {
  const {
    gpu,
    uuid,
    lost,
    fatal,
    failed_diagnostic: failed,
    last_read_ms: read,
    interval_ms: interval,
  } = facts;
  const who = `GPU ${gpu || uuid}`;
  const about = (condition: ConditionName, text: string): Verdict => verdictOf(condition, text, gpu || uuid);
  const troubles: Verdict[] = [];
  if (lost) troubles.push(about('lost', `${who} does not answer`));
  for (const { what, name, at_ms: at } of fatal)
    troubles.push(about('fatal', `${who} had ${what} (${name}) at ${new Date(at).toISOString()}`));
  if (facts.row_remap_failed === true) troubles.push(about('unrepairable', `${who}: row remapping failed`));
  if (facts.unrepairable === true) troubles.push(about('unrepairable', `${who}: memory cannot be repaired`));
  if (facts.row_remap_pending === true)
    troubles.push(about('remap-pending', `${who}: a row remapping waits for a reset`));
  if ((facts.uncorrected_ecc_errors ?? 0) > 0)
    troubles.push(
      about(
        'ecc',
        `${who}: ${facts.uncorrected_ecc_errors} uncorrected ECC errors since the driver was loaded`,
      ),
    );
  if ((facts.recovery_action ?? 0) > 0)
    troubles.push(about('recovery', `${who}: the driver asks to ${recoveryName(facts.recovery_action!)}`));
  if (failed)
    troubles.push(
      about(
        'diagnostic',
        `${who} failed ${failed.name || 'a diagnostic'} at ${new Date(failed.at_ms).toISOString()}`,
      ),
    );
  const limit = Math.max(STALE_MS, STALE_INTERVALS * (interval ?? 0));
  if (!lost && interval !== null && read === null) troubles.push(about('stale', `${who} was not read yet`));
  if (!lost && read !== null && now - read > limit)
    troubles.push(about('stale', `${who} was last read ${Math.round((now - read) / 1000)} s ago`));
  return troubles;
}

/** nvmlDeviceGetFieldValues, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: as the help of gpu_recovery_action has it. */
const RECOVERY_ACTIONS = ['do nothing', 'reset it', 'reboot the node', 'drain P2P', 'drain and reset it'];

function recoveryName(action: number): string {
  return RECOVERY_ACTIONS[action] ?? `do what its code ${action} means`;
}
