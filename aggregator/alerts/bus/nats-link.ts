import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream';
import { connect, type NatsConnection, type NodeConnectionOptions, nanos } from '@nats-io/transport-node';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';

/** A stream that is made where it is missing. One that exists is left as it is. */
export interface StreamSettings {
  readonly name: string;
  /** Copies in a NATS cluster; 1 by default. */
  readonly replicas: number;
  /** Oldest messages go beyond this. */
  readonly maxBytes: number;
  /** 0 for no limit. */
  readonly maxAgeMs: number;
  /** Oldest messages of a subject go beyond this; -1 for no limit. */
  readonly maxPerSubject: number;
}

export interface NatsLinkOptions {
  /** Such as nats://127.0.0.1:4222. */
  readonly servers: readonly string[];
  /** Credentials and TLS, as the client takes them. */
  readonly credentials?: Pick<NodeConnectionOptions, 'token' | 'user' | 'pass' | 'authenticator' | 'tls'>;
  readonly logger: Logger;
  /** 0 (included) to 1 (excluded), for the jitter of reconnects. */
  readonly random: () => number;
}

/** One connection, from its first ready moment to its end; never reconnects. */
export interface NatsSession {
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  /** For what is for whoever listens now, and is kept by nobody. */
  readonly connection: Pick<NatsConnection, 'publish' | 'flush'>;
}

export interface NatsLinkStatus {
  readonly connected: boolean;
  /** Why it is not connected; empty where it is. */
  readonly reason: string;
}

const CONNECT_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 5_000;
/** A peer that vanished without a word is noticed after 20 to 30 s. */
const PING_INTERVAL_MS = 10_000;
/** Each wait is a random part of a step that doubles from the first to the last: no herd after a restart. */
const FIRST_BACKOFF_MS = 100;
const LAST_BACKOFF_MS = 5_000;

/**
 * Keeps a connection to NATS for as long as the signal allows: connects, calls `use` with the session, waits for
 * its end, starts anew. One connection is one session (the client's own reconnect is off), so that a publish that
 * was under way fails at once rather than at its timeout, and every session begins with the same checks.
 */
export class NatsLink {
  readonly #options: NatsLinkOptions;
  #status: NatsLinkStatus = { connected: false, reason: 'not yet connected' };

  constructor(options: NatsLinkOptions) {
    this.#options = options;
  }

  status(): NatsLinkStatus {
    return this.#status;
  }

  /** `begin` gets a session ready, `end` is told that it is over. Neither is called twice at once. */
  async run(
    signal: AbortSignal,
    begin: (session: NatsSession) => Promise<void>,
    end: () => void,
  ): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      let connection: NatsConnection | undefined;
      const over = new AbortController();
      try {
        connection = await this.#connect();
        const closed = connection.closed();
        const jsm = await jetstreamManager(connection, { timeout: REQUEST_TIMEOUT_MS });
        await begin({ jsm, js: jetstream(connection, { timeout: REQUEST_TIMEOUT_MS }), connection });
        this.#status = { connected: true, reason: '' };
        this.#options.logger.info({ server: connection.getServer() }, 'connected to NATS');
        failures = 0;
        const cause = await Promise.race([closed, aborted(signal, over.signal)]);
        this.#lost(cause === undefined ? 'the connection ended' : describeError(cause));
      } catch (thrown) {
        this.#lost(describeError(thrown));
      } finally {
        over.abort();
        end();
        await connection?.close().catch(() => {});
      }
      const step = Math.min(LAST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** failures++);
      await sleep(step * this.#options.random(), undefined, { signal }).catch(() => {});
    }
  }

  #connect(): Promise<NatsConnection> {
    const { servers, credentials } = this.#options;
    // The client passes on what it does not know of.
    const tls = credentials?.tls && {
      ...credentials.tls,
      checkServerIdentity: (host: string, certificate: PeerCertificate) =>
        identityFault(servers, host, certificate),
    };
    return connect({
      ...credentials,
      ...(tls && { tls }),
      servers: [...servers],
      name: 'gpufleet-aggregator',
      reconnect: false,
      timeout: CONNECT_TIMEOUT_MS,
      pingInterval: PING_INTERVAL_MS,
      maxPingOut: 2,
      // A stack trace kept for each request in case it fails: measured at a sixth of all time in a storm of alerts.
      noAsyncTraces: true,
    });
  }

  #lost(reason: string): void {
    // Once for each new reason: an outage of an hour is one line, not thousands.
    if (this.#status.connected || this.#status.reason !== reason) {
      this.#options.logger.warn({ reason }, 'no connection to NATS');
    }
    this.#status = { connected: false, reason };
  }
}

/**
 * Makes a stream where it is missing and returns when it was created and its last sequence. Throws where one of
 * that name does not take the subjects.
 */
export async function ensureStream(
  jsm: JetStreamManager,
  settings: StreamSettings,
  subjects: string,
): Promise<{ created: string; lastSeq: number }> {
  const found = await jsm.streams.info(settings.name).catch((thrown: unknown) => {
    if (hasCode(thrown, JetStreamApiCodes.StreamNotFound)) return undefined;
    throw thrown;
  });
  const info =
    found ??
    (await jsm.streams.add({
      name: settings.name,
      subjects: [subjects],
      storage: StorageType.File,
      retention: RetentionPolicy.Limits,
      discard: DiscardPolicy.Old,
      num_replicas: settings.replicas,
      max_bytes: settings.maxBytes,
      max_age: nanos(settings.maxAgeMs),
      max_msgs_per_subject: settings.maxPerSubject,
      duplicate_window: nanos(120_000),
    }));
  if (!info.config.subjects?.includes(subjects)) {
    throw new FleetError(
      'invalid_config',
      `Cannot use NATS stream ${settings.name}: it does not take ${subjects}`,
    );
  }
  return { created: info.created, lastSeq: info.state.last_seq };
}

export function hasCode(thrown: unknown, code: number): boolean {
  return thrown instanceof JetStreamApiError && thrown.code === code;
}

/** Settles when the signal aborts; `over` takes its listener away. */
function aborted(signal: AbortSignal, over: AbortSignal): Promise<undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(undefined), { once: true, signal: over });
  });
}

/**
 * Node's check of whom a certificate is for. The client gives it no name for a server that is written as an address, so
 * that Node asks for `localhost`: then the certificate must name one of the addresses that we know servers by.
 */
function identityFault(
  servers: readonly string[],
  host: string,
  certificate: PeerCertificate,
): Error | undefined {
  const fault = checkServerIdentity(host, certificate);
  if (fault === undefined) return undefined;
  const addresses = servers.map(hostOf).filter((name) => isIP(name) !== 0);
  return addresses.some((address) => checkServerIdentity(address, certificate) === undefined)
    ? undefined
    : fault;
}

function hostOf(server: string): string {
  const url = URL.parse(server.includes('://') ? server : `nats://${server}`);
  return (url?.hostname ?? '').replace(/^\[|\]$/g, '');
}
