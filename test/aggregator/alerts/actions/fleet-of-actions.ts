import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { Actions, type ActionsOptions } from '../../../../aggregator/alerts/actions/actions.ts';
import type { AlertFeed } from '../../../../aggregator/alerts/actions/alert-source.ts';
import type { ExecutorDeps } from '../../../../aggregator/alerts/actions/executors/executor-kind.ts';
import type { AlertListener } from '../../../../aggregator/alerts/alert-change.ts';
import { alertId } from '../../../../aggregator/alerts/alert-id.ts';
import type { AuditFact } from '../../../../aggregator/alerts/audit/audit-entry.ts';
import type { ControlStore } from '../../../../aggregator/alerts/control/control-store.ts';
import { tempDir } from '../../../support/temp.ts';
import type { RecordingMachines } from './recording-machines.ts';

/** A clock that runs, and that a test can set forward. */
export class JumpingClock {
  offsetMs = 0;
  now(): number {
    return Date.now() + this.offsetMs;
  }
  monotonic(): number {
    return performance.now() + this.offsetMs;
  }
}

/** The alerts of one aggregator's engine, as the test says them. */
export class ScriptedFeed implements AlertFeed {
  readonly #alerts = new Map<string, Alert>();
  readonly #listeners = new Set<AlertListener>();

  alerts(): Iterable<Alert> {
    return this.#alerts.values();
  }

  subscribe(listener: AlertListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Said to those who listen; `silently` is one whose message got lost. */
  say(alert: Alert, silently = false): void {
    this.#alerts.set(alert.id, alert);
    const change = alert.state === AlertState.RESOLVED ? 'resolved' : 'fired';
    if (!silently) for (const listener of this.#listeners) listener(alert, change);
  }
}

/** The critical alert of a GPU of a node; it began `agoMs` before now. */
export function criticalAlert(
  node: string,
  nowMs: number,
  more: Partial<Omit<Alert, '$typeName' | '$unknown'>> = {},
): Alert {
  const gpu = more.gpu ?? '0';
  return create(AlertSchema, {
    id: alertId('east', node, gpu, 'gpu-critical', ''),
    rule: 'gpu-critical',
    cluster: 'east',
    node,
    gpu,
    state: AlertState.FIRING,
    severity: Severity.CRITICAL,
    summary: 'GPU is critical',
    transition: 1n,
    startedAt: timestampFromMs(nowMs),
    updatedAt: timestampFromMs(nowMs),
    ...more,
  });
}

export function resolved(alert: Alert, nowMs: number): Alert {
  return {
    ...alert,
    state: AlertState.RESOLVED,
    transition: alert.transition + 1n,
    resolvedAt: timestampFromMs(nowMs),
    updatedAt: timestampFromMs(nowMs),
  };
}

export interface OpenedActions extends AsyncDisposable {
  readonly actions: Actions;
  readonly audit: AuditFact[];
  readonly stop: () => Promise<void>;
}

const NO_DEPS: ExecutorDeps = {
  marks: { get: () => undefined, set: async () => {}, clear: async () => {} },
  agents: { command: async () => ({ outcome: 'away', output: '' }) },
  clock: { now: () => 0, monotonic: () => 0 },
  logger: silentLogger,
};

/** One aggregator's actions, running. */
export async function startActions(
  yaml: string,
  machines: RecordingMachines,
  control: ControlStore,
  more: Partial<ActionsOptions> = {},
): Promise<OpenedActions> {
  const folder = tempDir('actions');
  const file = join(folder.path, 'actions.yaml');
  await writeFile(file, yaml);
  const audit: AuditFact[] = [];
  const actions = await Actions.open({
    file,
    kinds: machines.kinds,
    executorDeps: NO_DEPS,
    control,
    audit: { write: async (fact) => void audit.push(fact) },
    feed: new ScriptedFeed(),
    nats: undefined,
    nodesOfPool: () => 100,
    poolOf: () => 'a100',
    clock: new JumpingClock(),
    random: Math.random,
    logger: silentLogger,
    registry: createRegistry(),
    shard: 'shard-0',
    ...more,
  });
  const abort = new AbortController();
  const run = actions.run(abort.signal);
  const stop = async (): Promise<void> => {
    abort.abort();
    await run;
  };
  return {
    actions,
    audit,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      await actions[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** actions.yaml of one policy. */
export function policyFile(
  lines: readonly string[] = [],
  steps: readonly string[] = ['drain: true'],
): string {
  return [
    'mode: live',
    'policies:',
    '  - name: drain-critical',
    "    matchers: ['rule=gpu-critical', 'severity=critical']",
    ...(lines.some((one) => one.startsWith('mode')) ? [] : ['    mode: live']),
    ...(lines.some((one) => one.startsWith('approval')) ? [] : ['    approval: none']),
    ...lines.map((one) => `    ${one}`),
    '    steps:',
    ...steps.map((one) => `      - ${one}`),
    '',
  ].join('\n');
}
