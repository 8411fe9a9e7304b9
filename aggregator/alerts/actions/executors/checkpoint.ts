import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import type { Clock } from '#shared/model/clock.ts';
import { type HttpOutcome, plainUrl } from '../../http/http-caller.ts';
import type { ActionContext, ActionTarget, Executor, StepOutcome } from '../executor.ts';
import { executorKind } from './executor-kind.ts';
import { guarded } from './guarded.ts';
import { notTaken, postSettings, SignedPost } from './signed-post.ts';

const schema = v.strictObject({
  ...postSettings,
  /** How long the next step waits for the checkpoint at most. */
  wait: v.optional(duration(1_000, 86_400_000), '10m'),
  /** Asked in the meantime, by POST; without it only the first answer and the wait tell. */
  status_url: v.optional(plainUrl),
  /** Without a confirmed checkpoint the action fails, rather than to go on when the wait is over. */
  required: v.optional(v.boolean('must be true or false'), false),
});

type Settings = v.InferOutput<typeof schema>;

/** How often the status URL is asked, and the longest that a step is not looked at; own judgement. */
const ASK_EVERY_MS = 10_000;
/** Steps whose wait is under way; the oldest of more is asked for anew. */
const MAX_WAITS = 10_000;

interface Wait {
  /** Monotonic ms of the first try. */
  readonly since: number;
  /** The other side has taken the request. */
  taken: boolean;
  /** Why it is not known to be done; the last answer. */
  why: string;
}

/**
 * Asks the training framework, or the scheduler, to write a checkpoint, and waits: a job that is then moved loses
 * minutes, not hours. The wait is kept in memory: after a restart it is asked for again, under the same key, and the
 * wait begins anew.
 */
export const checkpointKind = executorKind(
  schema,
  { takesOut: false, undoesUnsure: false },
  (settings, { clock }) => guarded(new CheckpointExecutor(settings, clock)),
);

class CheckpointExecutor implements Executor {
  readonly kind = 'checkpoint';
  readonly #settings: Settings;
  readonly #clock: Clock;
  readonly #post: SignedPost;
  readonly #waits = new Map<string, Wait>();

  constructor(settings: Settings, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#post = new SignedPost(settings, clock);
  }

  async preview({ node }: ActionTarget): Promise<string> {
    const { url, wait, required } = this.#settings;
    const then = required ? 'fail' : 'go on';
    return `would ask ${url} for a checkpoint of node ${node}, wait for it up to ${wait / 1000} s, and then ${then}`;
  }

  async execute(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<StepOutcome> {
    const wait = this.#waitOf(context.stepId);
    const answer = await this.#ask(wait, target, context, signal);
    const fault = answer && notTaken(answer);
    if (fault?.outcome === 'failed') return this.#over(context, fault);
    if (answer && !fault) {
      wait.taken = true;
      wait.why = 'the checkpoint is being written';
      if (saysDone(answer))
        return this.#over(context, {
          outcome: 'done',
          before: {},
          after: { confirmed: true, waited_s: this.#waitedMs(wait) / 1000 },
        });
    } else if (fault && 'why' in fault) {
      wait.why = fault.why;
    }
    const leftMs = this.#settings.wait - this.#waitedMs(wait);
    if (leftMs <= 0) return this.#over(context, this.#unconfirmed(wait));
    // Nobody has taken it: a try like any other, until the wait is over.
    if (!wait.taken) return { outcome: 'retry', why: wait.why };
    return { outcome: 'waiting', why: wait.why, afterMs: Math.max(1, Math.min(leftMs, ASK_EVERY_MS)) };
  }

  async undo(): Promise<StepOutcome> {
    return { outcome: 'failed', why: 'a checkpoint cannot be taken back, and need not be' };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#post.close();
  }

  /** Undefined where there is nobody to ask. */
  async #ask(
    wait: Wait,
    target: ActionTarget,
    context: ActionContext,
    signal: AbortSignal,
  ): Promise<HttpOutcome | undefined> {
    if (!wait.taken) return await this.#post.send('checkpoint', target, context, signal);
    const { status_url } = this.#settings;
    if (status_url === undefined) return undefined;
    return await this.#post.send('checkpoint_status', target, context, signal, status_url);
  }

  #unconfirmed(wait: Wait): StepOutcome {
    const { required } = this.#settings;
    const why = `no checkpoint was confirmed within ${this.#settings.wait / 1000} s (${wait.why})`;
    if (required) return { outcome: 'failed', why };
    return { outcome: 'done', before: {}, after: { confirmed: false, why } };
  }

  #over(context: ActionContext, outcome: StepOutcome): StepOutcome {
    this.#waits.delete(context.stepId);
    return outcome;
  }

  #waitOf(stepId: string): Wait {
    let wait = this.#waits.get(stepId);
    if (!wait) {
      wait = { since: this.#clock.monotonic(), taken: false, why: 'nobody was asked yet' };
      this.#waits.set(stepId, wait);
      for (const oldest of this.#waits.keys()) {
        if (this.#waits.size <= MAX_WAITS) break;
        this.#waits.delete(oldest);
      }
    }
    return wait;
  }

  #waitedMs({ since }: Wait): number {
    return this.#clock.monotonic() - since;
  }
}

/** `{"done": true}` */
function saysDone({ text }: HttpOutcome): boolean {
  try {
    return (JSON.parse(text) as { done?: unknown } | null)?.done === true;
  } catch {
    return false;
  }
}
