import * as v from 'valibot';
import type { Clock } from '#shared/model/clock.ts';
import type { ActionContext, ActionTarget, Executor, Facts, StepOutcome } from '../executor.ts';
import { executorKind } from './executor-kind.ts';
import { guarded } from './guarded.ts';
import { notTaken, postSettings, SignedPost } from './signed-post.ts';

const schema = v.strictObject({
  ...postSettings,
  /** The other side understands `"event": "undo"`. */
  undo: v.optional(v.boolean('must be true or false'), false),
});

type Settings = v.InferOutput<typeof schema>;

/** Of what the other side answered, in the audit log. */
const MAX_ANSWER = 1_000;

/** Tells another system, which does whatever it does: nothing is known here that would count for a pool's share. */
export const webhookKind = executorKind(
  schema,
  { takesOut: false, undoesUnsure: false },
  (settings, { clock }) => guarded(new WebhookExecutor(settings, clock)),
);

class WebhookExecutor implements Executor {
  readonly kind = 'webhook';
  readonly #settings: Settings;
  readonly #post: SignedPost;

  constructor(settings: Settings, clock: Clock) {
    this.#settings = settings;
    this.#post = new SignedPost(settings, clock);
  }

  async preview({ node }: ActionTarget): Promise<string> {
    const { url, secret_file } = this.#settings;
    return `would POST the action on node ${node} to ${url}${secret_file === undefined ? ', unsigned' : ''}`;
  }

  async execute(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<StepOutcome> {
    const answer = await this.#post.send('action', target, context, signal);
    const { status, text } = answer;
    const after: Facts = { status, answer: text.slice(0, MAX_ANSWER).toWellFormed() };
    const undo = this.#settings.undo ? { undo: {} } : {};
    return notTaken(answer) ?? { outcome: 'done', before: {}, after, ...undo };
  }

  async undo(
    target: ActionTarget,
    context: ActionContext,
    _undo: Facts,
    signal: AbortSignal,
  ): Promise<StepOutcome> {
    const answer = await this.#post.send('undo', target, context, signal);
    const { status, text } = answer;
    const after: Facts = { status, answer: text.slice(0, MAX_ANSWER).toWellFormed() };
    return notTaken(answer) ?? { outcome: 'done', before: {}, after };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#post.close();
  }
}
