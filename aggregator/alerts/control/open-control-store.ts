import type { Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { NatsLinkOptions, NatsSession } from '../bus/nats-link.ts';
import type { ControlShelf } from './control-shelf.ts';
import type { ControlStore } from './control-store.ts';
import { LocalControl } from './local-control.ts';
import { SharedControl } from './shared-control.ts';

/** What uses the store's connection for itself, such as the audit log's copies: few messages, and small. */
interface ControlRider {
  /** At each connection, once the documents are in step. */
  begin(session: NatsSession): Promise<void>;
  end(): void;
}

export interface ControlStoreOptions {
  /** Undefined where there is no NATS: the documents are on this disk alone. */
  readonly nats: Omit<NatsLinkOptions, 'logger' | 'random'> | undefined;
  /** On disk; not closed by the store. Keys begin with `control`. */
  readonly local: ControlShelf;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
  readonly random?: () => number;
  /** Copies of the bucket in a NATS cluster, where it has to be made; 1 by default. */
  readonly replicas?: number;
  /** How long opening waits for NATS before it goes on with what the mirror on disk knows; 2,000 by default. */
  readonly waitMs?: number;
  readonly riders?: readonly ControlRider[];
}

export type SharedControlOptions = ControlStoreOptions & {
  readonly nats: NonNullable<ControlStoreOptions['nats']>;
};

/** Never waits for NATS for longer than `waitMs`. */
export async function openControlStore(options: ControlStoreOptions): Promise<ControlStore> {
  const { nats } = options;
  return nats === undefined ? LocalControl.open(options.local) : SharedControl.open({ ...options, nats });
}
