import type { AuditFact } from '../audit/audit-entry.ts';
import type { ActionDocument } from './action-document.ts';

/** On disk when it resolves; rejects where it cannot be. */
export interface AuditSink {
  write(fact: AuditFact): Promise<unknown>;
}

/**
 * Brings the lines that an action carries to the audit log. They are written with the change that they tell of, and
 * leave the action once they are in the log: a crash between the two writes a line twice, never not at all.
 */
export class ActionOutbox {
  readonly #sink: AuditSink;
  /** Lines of actions under way that are in the log and may still be in the document. */
  readonly #written = new Map<string, Set<string>>();

  constructor(sink: AuditSink) {
    this.#sink = sink;
  }

  /** Rejects where the log cannot be written: then the action must not go on. */
  async flush(action: ActionDocument): Promise<void> {
    const written = this.#written.get(action.id) ?? new Set();
    this.#written.set(action.id, written);
    for (const line of action.outbox) {
      if (written.has(line.id)) continue;
      const { id, before, after, ...rest } = line;
      await this.#sink.write({
        ...rest,
        cluster: action.target.cluster,
        node: action.target.node,
        gpu: action.target.gpu,
        subject: action.id,
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after }),
      });
      written.add(id);
    }
  }

  /** The action without what is in the log. */
  cleared(action: ActionDocument): ActionDocument {
    const written = this.#written.get(action.id);
    if (written === undefined || written.size === 0) return action;
    return { ...action, outbox: action.outbox.filter(({ id }) => !written.has(id)) };
  }

  /** No more of this action here. */
  forget(id: string): void {
    this.#written.delete(id);
  }
}
