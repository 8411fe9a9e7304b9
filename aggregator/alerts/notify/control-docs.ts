import { FleetError } from '#shared/errors/fleet-error.ts';
import type { ControlStore } from '../control/control-store.ts';
import type { DocStore } from './doc-store.ts';

/**
 * The documents in the control store. Each is written over the revision that we have read or written ourselves, so
 * that of two notifiers that both believe to be in charge the second to write learns that it is not.
 */
export class ControlDocs implements DocStore {
  readonly #control: Pick<ControlStore, 'entries' | 'put' | 'delete'>;
  /** By key; as many as there are documents. */
  readonly #revisions = new Map<string, number>();

  constructor(control: Pick<ControlStore, 'entries' | 'put' | 'delete'>) {
    this.#control = control;
  }

  *entries(prefix: string): Iterable<{ readonly key: string; readonly value: unknown }> {
    for (const entry of this.#control.entries(prefix)) {
      this.#revisions.set(entry.key, entry.revision);
      yield entry;
    }
  }

  async put(key: string, value: unknown): Promise<void> {
    const revision = await this.#control.put(key, value, this.#revisions.get(key) ?? 0);
    if (revision === undefined) throw overtaken(key);
    this.#revisions.set(key, revision);
  }

  async delete(key: string): Promise<void> {
    const known = this.#revisions.get(key);
    if (known === undefined) return;
    if (!(await this.#control.delete(key, known))) throw overtaken(key);
    this.#revisions.delete(key);
  }
}

function overtaken(key: string): FleetError {
  return new FleetError('permission_denied', `Cannot write ${key}: another notifier has written it`);
}
