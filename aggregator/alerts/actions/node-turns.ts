import * as v from 'valibot';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { ControlStore } from '../control/control-store.ts';
import { type ActionDocument, isEnded } from './action-document.ts';
import type { ActionTable } from './action-table.ts';
import type { Policy } from './policy.ts';

const PREFIX = 'turn/';
const MAX_CONFLICTS = 50;

const turn = v.object({
  action: v.string(),
  /** When the last action of this policy that did something here began to; 0 for never. */
  actedAtMs: v.number(),
});
type Turn = v.InferOutput<typeof turn>;

/** Why an action waits, and until when; 0 for until something changes. */
export interface Wait {
  readonly why: string;
  readonly untilMs: number;
}

/**
 * Whose turn it is among the actions of one policy on one node, under `turn/<cluster>/<node>/<policy>`. The eight
 * GPUs of a broken board are eight alerts and eight actions: one asks for approval and acts, the others wait, and
 * the cool-down counts from the one that acted.
 */
export class NodeTurns {
  readonly #control: ControlStore;
  readonly #table: ActionTable;

  constructor(control: ControlStore, table: ActionTable) {
    this.#control = control;
    this.#table = table;
  }

  /** As last known here; undefined where the action may have the turn, or has it. */
  blocked(action: ActionDocument, policy: Policy, nowMs: number): Wait | undefined {
    return this.#blocked(action, policy, this.#read(turnKey(action)).found, nowMs);
  }

  /** Takes the turn, or says why not. Throws `unavailable`. */
  async take(action: ActionDocument, policy: Policy, nowMs: number): Promise<Wait | undefined> {
    const key = turnKey(action);
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts++) {
      const { found, revision } = this.#read(key);
      if (found?.action === action.id) return undefined;
      const wait = this.#blocked(action, policy, found, nowMs);
      if (wait !== undefined) return wait;
      const next: Turn = { action: action.id, actedAtMs: this.#lastActed(found) };
      if ((await this.#control.put(key, next, revision)) !== undefined) return undefined;
    }
    throw new FleetError(
      'unavailable',
      `Cannot take the turn on node ${action.target.node}: others do all the time`,
    );
  }

  /** Takes away turns whose action is gone or ended and whose cool-down is over, at most `limit` of them. */
  async sweep(coolDownMs: (policy: string) => number, nowMs: number, limit: number): Promise<void> {
    let left = limit;
    for (const { key, value, revision } of this.#control.entries(PREFIX)) {
      if (left <= 0) return;
      const parsed = v.safeParse(turn, value);
      if (!parsed.success) continue;
      const holder = this.#table.get(parsed.output.action);
      if (holder !== undefined && !isEnded(holder)) continue;
      const acted = this.#lastActed(parsed.output);
      const policy = decodeURIComponent(key.slice(key.lastIndexOf('/') + 1));
      if (acted > 0 && acted + coolDownMs(policy) > nowMs) continue;
      left--;
      await this.#control.delete(key, revision);
    }
  }

  #blocked(action: ActionDocument, policy: Policy, found: Turn | undefined, nowMs: number): Wait | undefined {
    if (found === undefined || found.action === action.id) return undefined;
    const holder = this.#table.get(found.action);
    if (holder !== undefined && !isEnded(holder) && holder.policy === action.policy)
      return { why: `action ${holder.id} of the same policy is at work on this node`, untilMs: 0 };
    const endMs = this.#lastActed(found) + policy.coolDownMs;
    if (this.#lastActed(found) === 0 || endMs <= nowMs) return undefined;
    return {
      why: `policy ${policy.name} cools down on this node until ${new Date(endMs).toISOString()}`,
      untilMs: endMs,
    };
  }

  /** The turn's own number is of those before its holder. */
  #lastActed(found: Turn | undefined): number {
    if (found === undefined) return 0;
    return Math.max(found.actedAtMs, this.#table.get(found.action)?.actedAtMs ?? 0);
  }

  #read(key: string): { found: Turn | undefined; revision: number } {
    const entry = this.#control.get(key);
    if (entry === undefined) return { found: undefined, revision: 0 };
    const parsed = v.safeParse(turn, entry.value);
    return { found: parsed.success ? parsed.output : undefined, revision: entry.revision };
  }
}

function turnKey({ target, policy }: ActionDocument): string {
  return `${PREFIX}${[target.cluster, target.node, policy].map(encodeURIComponent).join('/')}`;
}
