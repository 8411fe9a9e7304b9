import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import { HttpCaller, type HttpOutcome, httpSettings, plainUrl } from '../../http/http-caller.ts';
import { SecretFile, secretFilePath } from '../../http/secret-file.ts';
import { SIGNATURE_HEADER, signature } from '../../http/signature.ts';
import type { ActionContext, ActionTarget, StepOutcome } from '../executor.ts';

/** Settings of every step that POSTs. */
export const postSettings = {
  url: plainUrl,
  /** Holds the secret that bodies are signed with; unsigned without. */
  secret_file: v.optional(secretFilePath),
  /** Of one request. */
  timeout: v.optional(duration(100, 300_000), '10s'),
  ca_file: httpSettings.ca_file,
  proxy_url: httpSettings.proxy_url,
};

export interface PostSettings {
  readonly url: string;
  readonly secret_file?: string | undefined;
  readonly timeout: number;
  readonly ca_file?: string | undefined;
  readonly proxy_url?: string | undefined;
}

/** What the other side is asked: told in the body as `event`. */
export type PostEvent = 'action' | 'undo' | 'checkpoint' | 'checkpoint_status';

/**
 * POSTs a step as JSON. `Idempotency-Key` is the step's id (with the event behind it where that is not the step
 * itself), the same for each try. With a secret, `X-Gpufleet-Signature: t=<Unix s>,v1=<hex>` is HMAC-SHA256 over
 * `<t>.<body>`, as the webhook receiver of notifications signs.
 */
export class SignedPost {
  readonly #settings: PostSettings;
  readonly #clock: Clock;
  readonly #caller: HttpCaller;
  readonly #secret: SecretFile | undefined;

  constructor(settings: PostSettings, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#caller = new HttpCaller(settings, clock);
    this.#secret = settings.secret_file === undefined ? undefined : new SecretFile(settings.secret_file);
  }

  /** Never rejects: no answer in time and a secret that cannot be read are worth another try. */
  async send(
    event: PostEvent,
    target: ActionTarget,
    context: ActionContext,
    signal: AbortSignal,
    url = this.#settings.url,
  ): Promise<HttpOutcome> {
    const { timeout } = this.#settings;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(timeout)]);
    try {
      return await this.#send(event, target, context, limit, url);
    } catch (error) {
      const why = limit.aborted ? `no answer from ${url} in time` : describeError(error);
      return { delivery: { outcome: 'retry', why }, status: 0, text: '' };
    }
  }

  close(): Promise<void> {
    return this.#caller.close();
  }

  #send(
    event: PostEvent,
    target: ActionTarget,
    context: ActionContext,
    signal: AbortSignal,
    url: string,
  ): Promise<HttpOutcome> {
    const body = JSON.stringify(bodyOf(event, target, context));
    const key = event === 'action' || event === 'checkpoint' ? context.stepId : `${context.stepId}-${event}`;
    const headers: Record<string, string> = { 'idempotency-key': key };
    const secret = this.#secret?.read();
    if (secret !== undefined)
      headers[SIGNATURE_HEADER] = signature(secret, Math.floor(this.#clock.now() / 1000), body);
    return this.#caller.post({
      url,
      headers,
      body,
      signal,
      secrets: secret === undefined ? [] : [secret],
    });
  }
}

/** Why a request that was not taken is worth another try, or not. */
export function notTaken({ delivery }: HttpOutcome): StepOutcome | undefined {
  if (delivery.outcome === 'sent') return undefined;
  return { outcome: delivery.outcome === 'retry' ? 'retry' : 'failed', why: delivery.why };
}

function bodyOf(event: PostEvent, target: ActionTarget, context: ActionContext) {
  return {
    version: 1,
    event,
    step_id: context.stepId,
    action_id: context.actionId,
    policy: context.policy,
    cluster: target.cluster,
    node: target.node,
    gpu: target.gpu,
    gpu_uuid: target.gpuUuid,
    alert: { id: context.alertId, rule: context.rule, severity: context.severity },
    reason: context.reason,
  };
}
