/** What a step is done to. */
export interface ActionTarget {
  readonly cluster: string;
  readonly node: string;
  /** GPU index and UUID, empty where the alert is about the node. */
  readonly gpu: string;
  readonly gpuUuid: string;
}

/** Why, for whoever reads it at the other side: a drain's reason, a webhook's body. */
export interface ActionContext {
  /** The same for each try of one step, and for no other. */
  readonly stepId: string;
  readonly actionId: string;
  readonly policy: string;
  readonly alertId: string;
  readonly rule: string;
  readonly severity: 'info' | 'warning' | 'critical';
  /** A sentence; at most 200 characters. */
  readonly reason: string;
}

/** A JSON object for the audit log, at most 8 KiB: what the executor saw. */
export type Facts = Readonly<Record<string, unknown>>;

export type StepOutcome =
  /** `before` and `after` are what was seen; `undo` is what `undo` needs, undefined where it cannot be undone. */
  | { readonly outcome: 'done'; readonly before: Facts; readonly after: Facts; readonly undo?: Facts }
  /** It was so already, and not by us: nothing was done, and nothing is to be undone. */
  | { readonly outcome: 'already'; readonly before: Facts }
  /** Not finished (a pod still runs, a checkpoint is being written): called again with the same stepId. */
  | { readonly outcome: 'waiting'; readonly why: string; readonly afterMs: number }
  /** Worth another try: the API is away. */
  | { readonly outcome: 'retry'; readonly why: string }
  /** Will never succeed as it is: no such node, not allowed. */
  | { readonly outcome: 'failed'; readonly why: string };

/**
 * One kind of step. Each call may be repeated after a crash, so `execute` and `undo` are idempotent: what is done
 * already is `done` again (told apart from `already` by our own mark, such as the reason of a drain).
 */
export interface Executor extends AsyncDisposable {
  readonly kind: string;
  /** What it would do, in one sentence, with the state it found; for dry runs. Never rejects. */
  preview(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<string>;
  /** Never rejects. `signal` is the try's deadline. */
  execute(target: ActionTarget, context: ActionContext, signal: AbortSignal): Promise<StepOutcome>;
  /** Takes it back, where it still is as `execute` left it. Never rejects. */
  undo(target: ActionTarget, context: ActionContext, undo: Facts, signal: AbortSignal): Promise<StepOutcome>;
}
