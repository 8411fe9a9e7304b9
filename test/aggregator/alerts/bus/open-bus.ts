import { createRegistry, type Registry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import {
  type AlertBus,
  type AlertBusOptions,
  createAlertBus,
} from '../../../../aggregator/alerts/bus/alert-bus.ts';
import { type AlertSpool, openAlertSpool } from '../../../../aggregator/alerts/bus/alert-spool.ts';
import { EventSpool } from '../../../../aggregator/alerts/bus/event-spool.ts';
import { until } from '../../../support/wait.ts';

interface Opened extends AsyncDisposable {
  readonly bus: AlertBus;
  readonly spool: AlertSpool;
  readonly registry: Registry;
}

/** A bus on a spool folder, as an aggregator process has it. */
export async function openBus(
  folder: string,
  url: string | undefined,
  more: Partial<AlertBusOptions> = {},
): Promise<Opened> {
  const registry = createRegistry();
  const spool = await openAlertSpool(folder, { logger: silentLogger, registry });
  const events = await EventSpool.open(`${folder}-events`, { logger: silentLogger, registry });
  const bus = await createAlertBus({
    nats: url === undefined ? undefined : { servers: [url] },
    spool,
    events,
    clock: systemClock,
    logger: silentLogger,
    registry,
    ...more,
  });
  return {
    bus,
    spool,
    registry,
    async [Symbol.asyncDispose]() {
      await bus[Symbol.asyncDispose]();
      await events[Symbol.asyncDispose]();
      await spool[Symbol.asyncDispose]();
    },
  };
}

/** Resolves when everything given so far is in the stream. */
export const drained = (bus: AlertBus) =>
  until(() => bus.status().nats === 'connected' && bus.status().waiting === 0, {
    timeoutMs: 20_000,
    what: 'the bus has published everything',
  });
