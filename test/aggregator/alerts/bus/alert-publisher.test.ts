import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { alertSubject, encodeAlert } from '../../../../aggregator/alerts/bus/alert-message.ts';
import { AlertPublisher } from '../../../../aggregator/alerts/bus/alert-publisher.ts';
import { type AlertSpool, openAlertSpool } from '../../../../aggregator/alerts/bus/alert-spool.ts';
import type { NatsSession } from '../../../../aggregator/alerts/bus/nats-link.ts';
import { tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { alertOf } from '../alert-of.ts';
import { START_MS } from '../block-of.ts';

async function publisherIn(folder: string) {
  const registry = createRegistry();
  const logger = { ...silentLogger, warn: vi.fn() };
  const spool = await openAlertSpool(folder, { logger: silentLogger, registry });
  return { registry, logger, spool, publisher: new AlertPublisher({ stream: 'A', spool, logger, registry }) };
}

it('a NATS that refuses everything is one line in the log, not one for each alert twice a second', async () => {
  await using temp = tempDir('publisher');
  const { registry, logger, spool, publisher } = await publisherIn(join(temp.path, 'spool'));
  await using _ = spool;
  const session = {
    js: { publish: () => Promise.reject(new Error('no leader')) },
  } as unknown as NatsSession;
  await publisher.begin(session, { created: 'now', lastSeq: 0 });
  const alerts = Array.from({ length: 50 }, (_, gpu) => alertOf(String(gpu), 1));
  publisher.submit(await spool.append(alerts, START_MS, true));
  const failed = async () => Number(/outcome="failed"} (\d+)/.exec(await registry.metrics())?.[1]);
  await until(async () => (await failed()) >= 50, { timeoutMs: 10_000, what: 'each was tried' });
  expect(logger.warn).toHaveBeenCalledTimes(1);
  publisher.dispose();
  await until(() => publisher.settled, { timeoutMs: 10_000, what: 'nothing is under way' });
});

it('states that were read in part are not taken for all: what fires would be forgotten', async () => {
  await using temp = tempDir('publisher');
  const { spool, publisher } = await publisherIn(join(temp.path, 'spool'));
  await using _ = spool;
  const alert = alertOf('0', 1);
  const messages = (pending: number) =>
    Object.assign(
      (async function* () {
        yield { subject: alertSubject(alert), seq: 1, string: () => encodeAlert(alert), info: { pending } };
      })(),
      { close: async () => {} },
    );
  const session = (pending: number) =>
    ({
      js: {
        consumers: {
          get: async () => ({
            info: async () => ({ num_pending: 2 }),
            consume: async () => messages(pending),
          }),
        },
      },
    }) as unknown as NatsSession;
  expect(await publisher.lastMessages(session(0))).toEqual([alert]);
  await expect(publisher.lastMessages(session(1))).rejects.toMatchObject({ code: 'unavailable' });
});

// It would wait on disk for the next one, or for the next connection.
it('a transition that comes while the last of the spool is read goes out too', async () => {
  await using temp = tempDir('publisher');
  const registry = createRegistry();
  await using spool = await openAlertSpool(join(temp.path, 'spool'), { logger: silentLogger, registry });
  let comes = true;
  const read: AlertSpool['waiting'] = async (after, limit) => {
    const found = await spool.waiting(after, limit);
    if (comes) {
      comes = false;
      publisher.submit(await spool.append([alertOf('0', 1)], START_MS, true));
    }
    return found;
  };
  const busy = new Proxy(spool, {
    get: (of, name) => {
      if (name === 'waiting') return read;
      const value = Reflect.get(of, name, of) as unknown;
      return typeof value === 'function' ? value.bind(of) : value;
    },
  });
  const publisher = new AlertPublisher({ stream: 'A', spool: busy, logger: silentLogger, registry });
  const session = { js: { publish: async () => ({ seq: 1, duplicate: false }) } } as unknown as NatsSession;
  await publisher.begin(session, { created: 'now', lastSeq: 0 });
  await until(() => !comes && spool.waitingCount === 0, { timeoutMs: 10_000, what: 'it is published' });
  publisher.dispose();
});
