import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { AgentNotRunning, askAgent } from '../control/control-client.ts';
import type { GateFacts } from '../control/gate-facts.ts';
import { type GateQuestion, judge, type Verdict, verdictOf } from './gate-verdict.ts';
import { plain, type Terminal } from './terminal.ts';

export interface CheckOptions extends GateQuestion {
  readonly socket: string;
  readonly timeoutMs: number;
  readonly json: boolean;
  /** Reads the sources in this process, where no agent runs; undefined: that is a failure. */
  readonly direct: (() => Promise<GateFacts>) | undefined;
}

/**
 * The job gate: one line of reason and an exit code, from what the running agent knows. Looks at no device itself
 * (but with `direct`), so it cannot hang on one.
 */
export async function check(terminal: Terminal, options: CheckOptions): Promise<number> {
  const { verdict, facts, direct } = await verdictFor(options);
  const line = plain(verdict.reason);
  const note = direct ? ' (read directly: Xids since boot and past diagnostics are not known)' : '';
  if (options.json)
    terminal.write(`${JSON.stringify({ ...verdict, reason: line, direct, facts: facts ?? null })}\n`);
  else terminal.write(`${line}${note}\n`);
  return verdict.code;
}

async function verdictFor(
  options: CheckOptions,
): Promise<{ verdict: Verdict; facts?: GateFacts; direct: boolean }> {
  const { socket, timeoutMs, ignore } = options;
  try {
    const facts = await askAgent(socket, { command: 'gate' }, timeoutMs);
    return { verdict: judge(facts, options), facts, direct: false };
  } catch (error) {
    if (error instanceof AgentNotRunning && options.direct) {
      const facts = await options.direct();
      return { verdict: judge(facts, options), facts, direct: true };
    }
    const condition = error instanceof AgentNotRunning ? 'not-running' : 'no-answer';
    if (!(error instanceof FleetError) || error.code === 'permission_denied') throw error;
    const verdict = ignore.has(condition)
      ? { condition: 'ok' as const, code: 0, reason: `ok: ${condition} is ignored` }
      : verdictOf(condition, describeError(error));
    return { verdict, direct: false };
  }
}
