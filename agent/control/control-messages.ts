import * as v from 'valibot';
import { MAX_EVENT_ATTRIBUTES, MAX_EVENT_TEXT } from '#shared/model/event.ts';
import { MAX_PAUSE_MS, MIN_PAUSE_MS } from './agent-control.ts';
import type { AgentStatus } from './agent-status.ts';
import type { GateFacts } from './gate-facts.ts';

/** A request is one line of at most this, bytes: an event with its longest text fits. */
export const MAX_REQUEST_BYTES = 64 * 1024;
/** An answer is one line of at most this, bytes: 1,000 sources and GPUs fit. */
export const MAX_ANSWER_BYTES = 4 * 2 ** 20;

const event = v.strictObject({
  type: v.literal('diagnostic'),
  timestampMs: v.pipe(v.number(), v.integer(), v.minValue(0)),
  gpu: v.pipe(v.string(), v.maxLength(64)),
  gpuUuid: v.pipe(v.string(), v.maxLength(128)),
  text: v.pipe(v.string(), v.maxLength(MAX_EVENT_TEXT)),
  attributes: v.pipe(
    v.record(v.pipe(v.string(), v.maxLength(64)), v.pipe(v.string(), v.maxLength(1024))),
    v.check((value) => Object.keys(value).length <= MAX_EVENT_ATTRIBUTES, 'too many attributes'),
  ),
});

/** A line from a client: one request a connection. */
export const controlRequest = v.variant('command', [
  v.strictObject({ command: v.literal('status') }),
  v.strictObject({ command: v.literal('gate') }),
  v.strictObject({
    command: v.literal('pause'),
    ms: v.pipe(v.number(), v.minValue(MIN_PAUSE_MS), v.maxValue(MAX_PAUSE_MS)),
  }),
  v.strictObject({ command: v.literal('resume') }),
  v.strictObject({ command: v.literal('reload') }),
  v.strictObject({ command: v.literal('event'), event }),
]);

export type ControlRequest = v.InferOutput<typeof controlRequest>;

/** What each request is answered with. */
export interface ControlAnswers {
  readonly status: AgentStatus;
  readonly gate: GateFacts;
  readonly pause: null;
  readonly resume: null;
  readonly reload: readonly string[];
  readonly event: null;
}

/** The line that comes back. */
export type ControlReply =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string };
