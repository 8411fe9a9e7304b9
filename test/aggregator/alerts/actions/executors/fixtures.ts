import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { ActionContext, ActionTarget } from '../../../../../aggregator/alerts/actions/executor.ts';
import type {
  CommandAnswer,
  CommandOrder,
  ExecutorDeps,
  NodeMark,
  NodeMarks,
} from '../../../../../aggregator/alerts/actions/executors/executor-kind.ts';

/** A GPU of node-a. */
export const TARGET: ActionTarget = { cluster: 'c', node: 'node-a', gpu: '3', gpuUuid: 'GPU-1f00' };

/** A step of one action; another id is another step. */
export function contextOf(stepId = 'step-1'): ActionContext {
  return {
    stepId,
    actionId: 'action-1',
    policy: 'drain-critical',
    alertId: 'alert-1',
    rule: 'gpu-critical',
    severity: 'critical',
    reason: 'GPU 3 fell off the bus (Xid 79)',
  };
}

/** The deadline of a test's try: long enough for a machine that is busy. */
export function inTime(ms = 60_000): AbortSignal {
  return AbortSignal.timeout(ms);
}

/** Marks in memory. */
export class FakeMarks implements NodeMarks {
  readonly all = new Map<string, NodeMark>();
  /** How often something was changed. */
  changes = 0;

  get(_cluster: string, node: string): NodeMark | undefined {
    return this.all.get(node);
  }

  async set(_cluster: string, node: string, mark: NodeMark): Promise<void> {
    this.changes++;
    this.all.set(node, mark);
  }

  async clear(_cluster: string, node: string): Promise<void> {
    this.changes++;
    this.all.delete(node);
  }
}

/** Agents that answer what they are told to, and keep what they were asked. */
export class FakeAgents {
  readonly asked: CommandOrder[] = [];
  answer: (order: CommandOrder, signal: AbortSignal) => Promise<CommandAnswer> = async () => ({
    outcome: 'succeeded',
    status: 0,
    output: 'reset\n',
  });

  command(_cluster: string, _node: string, order: CommandOrder, signal: AbortSignal): Promise<CommandAnswer> {
    this.asked.push(order);
    return this.answer(order, signal);
  }
}

export function depsOf(over: Partial<ExecutorDeps> = {}): ExecutorDeps {
  return {
    marks: new FakeMarks(),
    agents: new FakeAgents(),
    clock: systemClock,
    logger: silentLogger,
    ...over,
  };
}
