import { type Alert, AlertState } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { AlertEngine } from '../alert-engine.ts';
import type { AlertFeed } from './alert-feed.ts';

/** The alerts of this aggregator. */
export class LocalFeed implements AlertFeed {
  readonly loaded = true;
  readonly #engine: Pick<AlertEngine, 'alerts' | 'subscribe'>;

  constructor(engine: Pick<AlertEngine, 'alerts' | 'subscribe'>) {
    this.#engine = engine;
  }

  *alerts(): Iterable<Alert> {
    for (const alert of this.#engine.alerts()) if (alert.state !== AlertState.PENDING) yield alert;
  }

  subscribe(listener: (alert: Alert) => void): Disposable {
    return this.#engine.subscribe((alert, change) => {
      if (change !== 'pending' && change !== 'withdrawn') listener(alert);
    });
  }
}
