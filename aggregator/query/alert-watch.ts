import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { ACTIVE, type AlertFilter, filterAlerts, matchesAlert } from './alert-filter.ts';
import type { FleetView } from './fleet-view.ts';

/** Transitions that a watcher may be behind. */
const MAX_BEHIND = 1_000;
const MAX_WATCHERS = 1_000;

/** Streams of alert transitions, each with a queue of its own that is bounded: a slow reader stops only itself. */
export class AlertWatches {
  readonly #view: FleetView;
  #watchers = 0;

  constructor(view: FleetView) {
    this.#view = view;
  }

  get count(): number {
    return this.#watchers;
  }

  /**
   * What is active now (unless `onlyChanges`), then each transition, until the signal aborts. Throws
   * `resource_exhausted` for a reader that is too far behind, and when there are too many watchers.
   */
  async *watch(filter: AlertFilter, onlyChanges: boolean, signal: AbortSignal): AsyncGenerator<Alert> {
    if (this.#watchers >= MAX_WATCHERS)
      throw new FleetError('resource_exhausted', `Cannot watch: ${MAX_WATCHERS} watchers are open`);
    this.#watchers++;
    const queue: Alert[] = [];
    let overrun = false;
    let wake = (): void => {};
    const abort = (): void => wake();
    // Subscribed before the list is read: what changes in between comes twice rather than not at all.
    using _subscription = this.#view.subscribe((alert) => {
      if (!matchesAlert(alert, filter)) return;
      if (queue.length >= MAX_BEHIND) overrun = true;
      else queue.push(alert);
      wake();
    });
    signal.addEventListener('abort', abort);
    try {
      if (!onlyChanges) yield* filterAlerts(this.#view.alerts(), { ...filter, states: ACTIVE });
      while (!signal.aborted) {
        if (overrun)
          throw new FleetError(
            'resource_exhausted',
            `Cannot go on: the reader is ${MAX_BEHIND} transitions behind; list and watch again`,
          );
        const next = queue.shift();
        if (next) {
          yield next;
          continue;
        }
        const { promise, resolve } = Promise.withResolvers<void>();
        wake = resolve;
        await promise;
      }
    } finally {
      this.#watchers--;
      signal.removeEventListener('abort', abort);
    }
  }
}
