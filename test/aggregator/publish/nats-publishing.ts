import { gunzipSync } from 'node:zlib';
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import * as v from 'valibot';
import { createRegistry, type Registry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { StreamLink } from '../../../aggregator/alerts/bus/stream-link.ts';
import { toSubject } from '../../../aggregator/alerts/bus/subject.ts';
import { Publishing, type PublishingOptions } from '../../../aggregator/publish/publishing.ts';
import { publishSettings } from '../../../aggregator/publish/settings.ts';
import { until } from '../../support/wait.ts';

export interface OpenedPublishing extends AsyncDisposable {
  readonly publishing: Publishing;
  readonly link: StreamLink;
  readonly registry: Registry;
}

export function settingsOf(settings: v.InferInput<typeof publishSettings>) {
  return v.parse(publishSettings, settings);
}

/** The stage on a connection of its own, as the aggregator wires it. */
export function openPublishing(
  url: string,
  settings: v.InferInput<typeof publishSettings>,
  more: Partial<PublishingOptions> = {},
): OpenedPublishing {
  const registry = createRegistry();
  const publishing = new Publishing({
    settings: settingsOf(settings),
    replicas: 1,
    toSubject,
    clock: systemClock,
    registry,
    ...more,
  });
  const link = new StreamLink({
    servers: [url],
    logger: silentLogger,
    random: Math.random,
    streams: publishing.streams,
    begin: (stream) => publishing.begin(stream),
    end: () => publishing.end(),
  });
  return {
    publishing,
    link,
    registry,
    async [Symbol.asyncDispose]() {
      await publishing.close();
      await link[Symbol.asyncDispose]();
    },
  };
}

export function connected({ link }: OpenedPublishing): Promise<unknown> {
  return until(() => link.status().connected, { timeoutMs: 20_000, what: 'the stage is connected' });
}

/** A counter of the stage's registry by its labels; 0 where it was never counted. */
export async function countOf(
  registry: Registry,
  name: string,
  labels: Readonly<Record<string, string>>,
): Promise<number> {
  const metric = await registry.getSingleMetric(name)!.get();
  const found = metric.values.find((value) =>
    Object.entries(labels).every(([label, text]) => (value.labels as Record<string, string>)[label] === text),
  );
  return found?.value ?? 0;
}

export function stored(opened: OpenedPublishing, stream: string, count: number): Promise<unknown> {
  return until(
    async () => (await countOf(opened.registry, 'gpufleet_publish_messages_total', { stream })) >= count,
    { timeoutMs: 20_000, what: `${count} messages are in ${stream}` },
  );
}

export interface Received {
  readonly subject: string;
  readonly seq: number;
  readonly body: Uint8Array;
  readonly dictionary: string;
}

/** A durable pull consumer: its position is the server's, so that each call goes on where the last one stopped. */
export async function pull(
  url: string,
  stream: string,
  durable: string,
  count: number,
  filter = '>',
): Promise<Received[]> {
  const connection = await connect({ servers: url });
  try {
    const jsm = await jetstreamManager(connection);
    await jsm.consumers.add(stream, {
      durable_name: durable,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ...(filter !== '>' && { filter_subject: filter }),
    });
    const consumer = await jetstream(connection).consumers.get(stream, durable);
    const received: Received[] = [];
    while (received.length < count) {
      const before = received.length;
      const messages = await consumer.fetch({ max_messages: count - received.length, expires: 5_000 });
      for await (const message of messages) {
        const { subject, seq, data, headers } = message;
        received.push({
          subject,
          seq,
          body: data.slice(),
          dictionary: headers?.get('Gpufleet-Dictionary') ?? '',
        });
        await message.ackAck();
      }
      if (received.length === before) break;
    }
    return received;
  } finally {
    await connection.close();
  }
}

/** Messages that a consumer has not been given yet. */
export async function pendingOf(url: string, stream: string, durable: string): Promise<number> {
  const connection = await connect({ servers: url });
  try {
    return (await (await jetstreamManager(connection)).consumers.info(stream, durable)).num_pending;
  } finally {
    await connection.close();
  }
}

export interface ToldDictionary {
  readonly hash: string;
  readonly group: string;
  readonly interval_ms: number;
  readonly series: readonly {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly kind: string;
    readonly decimals: number;
    readonly unit: string;
  }[];
}

/** The dictionary of a hash as a consumer looks it up: the last message of its subject. */
export async function lookUp(url: string, hash: string): Promise<ToldDictionary> {
  const connection = await connect({ servers: url });
  try {
    const jsm = await jetstreamManager(connection);
    const message = await until(
      () =>
        jsm.streams.getMessage('GPUFLEET_DICTIONARIES', { last_by_subj: `gpufleet.dictionaries.${hash}` }),
      { timeoutMs: 20_000, what: 'the dictionary is there' },
    );
    return JSON.parse(gunzipSync(message!.data).toString()) as ToldDictionary;
  } finally {
    await connection.close();
  }
}
