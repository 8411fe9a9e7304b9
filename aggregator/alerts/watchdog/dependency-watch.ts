import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { DependencyState } from './heartbeat.ts';

export interface DependencyWatchOptions {
  readonly shard: string;
  readonly clock: Clock;
  /** How each is now. */
  readonly states: () => Readonly<Record<string, DependencyState>>;
  readonly onEvent: (event: FleetEvent) => void;
  /** Away for so long is worth a word, ms; a minute by default: a restart is not. */
  readonly patienceMs?: number;
}

const PATIENCE_MS = 60_000;

/**
 * Says as an event `dependency` that the store or NATS is away (`state`: away, back), so that a rule can alert on it:
 * the store's absence over NATS, that of NATS by whatever notifies without it.
 */
export class DependencyWatch {
  readonly #options: DependencyWatchOptions;
  /** Since when each is away, monotonic ms. */
  readonly #away = new Map<string, { readonly sinceMs: number; told: boolean }>();

  constructor(options: DependencyWatchOptions) {
    this.#options = options;
  }

  /** To be called about once a second. */
  look(): void {
    const { clock, states, patienceMs = PATIENCE_MS } = this.#options;
    const nowMs = clock.monotonic();
    for (const [name, state] of Object.entries(states())) {
      const known = this.#away.get(name);
      if (state !== 'away') {
        this.#away.delete(name);
        if (known?.told) this.#tell(name, 'back', nowMs - known.sinceMs);
      } else if (known === undefined) {
        this.#away.set(name, { sinceMs: nowMs, told: false });
      } else if (!known.told && nowMs - known.sinceMs >= patienceMs) {
        known.told = true;
        this.#tell(name, 'away', nowMs - known.sinceMs);
      }
    }
  }

  #tell(name: string, state: 'away' | 'back', forMs: number): void {
    const { shard, clock, onEvent } = this.#options;
    const seconds = Math.round(forMs / 1000);
    onEvent({
      type: 'dependency',
      timestampMs: clock.now(),
      gpu: '',
      gpuUuid: '',
      text: `${name} of aggregator ${shard} is ${state === 'away' ? `away for ${seconds} s` : `back after ${seconds} s`}`,
      attributes: { what: name, state, shard, of: `${name}@${shard}` },
    });
  }
}
