import { connect } from '@nats-io/transport-node';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { ControlShelf } from '../../../../aggregator/alerts/control/control-shelf.ts';
import type { ControlStore } from '../../../../aggregator/alerts/control/control-store.ts';
import {
  type ControlStoreOptions,
  openControlStore,
} from '../../../../aggregator/alerts/control/open-control-store.ts';
import { until } from '../../../support/wait.ts';

/** A store over NATS, as an aggregator has it; without a URL alone. */
export function openStore(
  local: ControlShelf,
  url: string | undefined,
  more: Partial<ControlStoreOptions> = {},
): Promise<ControlStore> {
  return openControlStore({
    nats: url === undefined ? undefined : { servers: [url] },
    local,
    clock: systemClock,
    logger: silentLogger,
    registry: createRegistry(),
    ...more,
  });
}

export async function isState(store: ControlStore, state: ControlStore['state']): Promise<void> {
  await until(async () => store.state === state, { timeoutMs: 20_000, what: `the store is ${state}` });
}

/** Writes what is wanted, whoever else does; as a caller with a counter or a share does. */
export async function change(
  store: ControlStore,
  key: string,
  next: (value: unknown) => unknown,
): Promise<void> {
  for (;;) {
    const entry = store.get(key);
    if ((await store.put(key, next(entry?.value), entry?.revision ?? 0)) !== undefined) return;
  }
}

/** A client of NATS that is none of ours. */
export function stranger(url: string) {
  return connect({ servers: url });
}
