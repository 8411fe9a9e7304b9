import { create } from '@bufbuild/protobuf';
import type { ChannelCredentials } from '@grpc/grpc-js';
import {
  type Ack,
  type Hello,
  HelloSchema,
  type Welcome,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { LossReason } from '#shared/model/loss.ts';
import { runName } from '#shared/model/run.ts';
import { Backoff } from './backoff.ts';
import { Delivery, type RunRange } from './delivery.ts';
import { openIngestStream } from './ingest-stream.ts';
import type { LiveRecord, ReadRecord, RecordSource } from './record-source.ts';
import { Session } from './session.ts';
import { uplinkMetrics } from './uplink-metrics.ts';

export const PROTOCOL_VERSION = 1;

export interface UplinkOptions {
  /** host:port of the aggregators, tried in turn. */
  readonly aggregators: readonly string[];
  readonly credentials: ChannelCredentials;
  /** Read for each connection, so that a rotated token file is used. */
  readonly token: () => Promise<string | undefined>;
  readonly identity: Pick<
    Hello,
    'cluster' | 'node' | 'machineId' | 'bootId' | 'agentVersion' | 'externalLabels'
  >;
  readonly source: RecordSource;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** Backfill is read and sent in pieces of this size, so that a live tick never waits behind more. */
const BACKFILL_READ_BYTES = 64 * 1024;
const SAVE_MARKS_EVERY_MS = 5_000;

/**
 * Sends every record of the buffer to an aggregator until the store has it for good. One stream, two lanes:
 * what was just recorded goes live at once if its window has room, everything else follows from disk.
 */
export class Uplink {
  readonly #options: UplinkOptions;
  readonly #delivery: Delivery;
  readonly #backoff: Backoff;
  readonly #metrics;
  #session: Session | undefined;
  #liveThrough = 0;
  #pumping: Promise<void> | undefined;
  #pumpAgain = false;
  #marksToSave = new Set<number>();
  #lastProblem = '';
  #nextAggregator = 0;

  constructor(options: UplinkOptions) {
    this.#options = options;
    this.#delivery = new Delivery(() => options.source.runs);
    this.#backoff = new Backoff(options.random);
    this.#metrics = uplinkMetrics(options.registry, () => ({
      connected: this.connected,
      pending: this.#delivery.pendingRecords(this.#liveThrough),
      inFlight: {
        live: this.#delivery.inFlightBytes('live'),
        backfill: this.#delivery.inFlightBytes('backfill'),
      },
    }));
  }

  /** Hello was answered, and the stream stands. */
  get connected(): boolean {
    return this.#session?.welcomed === true;
  }

  /** Connects, and again, until the signal aborts; then drains for a moment and returns. */
  async run(signal: AbortSignal): Promise<void> {
    const saving = setInterval(() => void this.#saveMarks(), SAVE_MARKS_EVERY_MS);
    try {
      while (!signal.aborted) {
        const { aggregators, logger } = this.#options;
        const address = aggregators[this.#nextAggregator++ % aggregators.length]!;
        try {
          await this.#connect(address, signal);
          if (!signal.aborted) this.#say('aggregator closed the stream', address);
        } catch (error) {
          this.#metrics.failures.inc();
          this.#say(describeError(error), address);
        }
        if (signal.aborted) break;
        const wait = this.#backoff.next();
        logger.debug({ wait }, 'waiting to reconnect');
        await sleep(wait, signal);
      }
    } finally {
      clearInterval(saving);
      await this.#pumping?.catch(() => {});
      await this.#saveMarks();
    }
  }

  /** A record that is on disk (or could not be written, and goes on from memory). Sends it live if it can. */
  offer(record: LiveRecord): void {
    this.#liveThrough = Math.max(this.#liveThrough, record.sequence);
    const session = this.#session;
    if (!session?.welcomed) return;
    if (this.#delivery.inFlightBytes('live') + record.bytes > session.windowBytes) {
      this.#metrics.liveSkipped.inc();
      this.#pump();
      return;
    }
    if ('tick' in record) session.sendLiveTick(record);
    else session.sendEvent(session.liveRun, record.sequence, record.event, record.bytes, 'live');
    this.#pump();
  }

  async #connect(address: string, signal: AbortSignal): Promise<void> {
    const { credentials, source } = this.#options;
    const token = await this.#options.token();
    let session: Session | undefined;
    const stream = openIngestStream(address, credentials, token, (response) => session?.receive(response));
    session = new Session(stream, this.#delivery, source, this.#options.clock, {
      welcome: (welcome) => this.#welcomed(address, welcome),
      ack: (ack) => this.#acked(ack),
      sent: (lane, bytes) => {
        this.#metrics.sentRecords.inc({ lane });
        this.#metrics.sentBytes.inc({ lane }, bytes);
      },
    });
    this.#session = session;
    const watchdog = setInterval(() => session.checkAnswers(), 1000);
    const stop = (): void => session.drain();
    signal.addEventListener('abort', stop, { once: true });
    try {
      session.hello(this.#hello());
      if (signal.aborted) stop();
      await Promise.race([stream.ended, session.failed]);
    } finally {
      signal.removeEventListener('abort', stop);
      clearInterval(watchdog);
      this.#session = undefined;
      stream[Symbol.dispose]();
      this.#delivery.disconnected();
    }
  }

  #hello(): Hello {
    const { identity, source, clock } = this.#options;
    return create(HelloSchema, {
      ...identity,
      protocolVersion: PROTOCOL_VERSION,
      wallTimeUnixMs: BigInt(clock.now()),
      runs: source.runs.map((run) => ({
        id: run.id,
        firstSequence: BigInt(run.first),
        lastSequence: BigInt(run.last),
        cleanEnd: run.cleanEnd,
      })),
    });
  }

  #welcomed(address: string, welcome: Welcome): void {
    if (welcome.protocolVersion !== PROTOCOL_VERSION) {
      throw new FleetError(
        'invalid_input',
        `Cannot stream to ${address}: it speaks protocol ${welcome.protocolVersion}, this agent ${PROTOCOL_VERSION}`,
      );
    }
    this.#backoff.reset();
    this.#lastProblem = '';
    const pending = this.#delivery.pendingRecords(this.#liveThrough);
    this.#options.logger.info({ address, shard: welcome.shard, pending }, 'connected to aggregator');
    this.#pump();
  }

  #acked(ack: Ack): void {
    const session = this.#session;
    if (!session) return;
    const now = this.#options.clock.monotonic();
    for (const { run, first, last } of ack.accepted) {
      const counter = session.counterOf(run);
      if (counter === undefined) continue;
      this.#delivery.accepted(
        { run: counter, first: Number(first), last: Number(last) },
        ack.storeEpoch,
        now,
      );
    }
    for (const { run, first, last } of ack.deferred) {
      const counter = session.counterOf(run);
      if (counter !== undefined)
        this.#delivery.deferred({ run: counter, first: Number(first), last: Number(last) });
    }
    for (const refusal of ack.refused) this.#refused(session, refusal.range, refusal.reason, refusal.detail);
    const { moved, again } = this.#delivery.observe(ack.storeEpoch, now - ack.epochAgeMs);
    for (const run of moved) this.#marksToSave.add(run);
    if (again > 0) {
      this.#metrics.again.inc(again);
      this.#options.logger.warn({ records: again }, 'store restarted: sending again what it may have lost');
    }
    this.#pump();
  }

  #refused(
    session: Session,
    range: { run: number; first: bigint; last: bigint } | undefined,
    reason: string,
    detail: string,
  ): void {
    const counter = range && session.counterOf(range.run);
    if (!range || counter === undefined) return;
    const refused = { run: counter, first: Number(range.first), last: Number(range.last) };
    this.#lose(refused, 'refused', `The aggregator refused them (${reason}): ${detail}`);
  }

  /** Records that will never be delivered: said as a loss record, and not tried again. */
  #lose(range: RunRange, reason: LossReason, detail: string): void {
    this.#delivery.settled(range);
    this.#marksToSave.add(range.run);
    const now = this.#options.clock.now();
    const records = range.last - range.first + 1;
    const samples = records * (this.#session?.lastSlots ?? 0);
    const text = `Records ${range.first} to ${range.last} of run ${range.run}: ${detail}`;
    this.#options.source
      .appendLoss({ fromMs: 0, toMs: now, samples, reason, estimated: true, detail: text.slice(0, 1000) })
      .catch((error: unknown) =>
        this.#options.logger.error({ cause: describeError(error) }, 'cannot record a loss'),
      );
  }

  /** Sends from disk while there is room; wakes at each acknowledgement and each record. */
  #pump(): void {
    if (this.#pumping) {
      this.#pumpAgain = true;
      return;
    }
    this.#pumping = this.#pumpOnce()
      .catch((error: unknown) => {
        this.#options.logger.error({ cause: describeError(error) }, 'cannot read the backlog');
      })
      .finally(() => {
        this.#pumping = undefined;
        if (!this.#pumpAgain) return;
        this.#pumpAgain = false;
        this.#pump();
      });
  }

  async #pumpOnce(): Promise<void> {
    const { source } = this.#options;
    for (;;) {
      const session = this.#session;
      if (!session?.welcomed || !session.backfillOpen) return;
      const room = session.windowBytes - this.#delivery.inFlightBytes('backfill');
      const next = this.#delivery.nextPending(this.#liveThrough);
      const run = next && source.runs.find((one) => one.counter === next.run);
      if (!next || !run || room <= 0) return;
      const records = await source.read(run, next.first, next.last, Math.min(room, BACKFILL_READ_BYTES));
      if (session !== this.#session || records.length === 0) return;
      for (const record of records) {
        if (record.ok) this.#sendStored(session, next.run, record);
        else
          this.#lose({ run: next.run, first: record.sequence, last: record.sequence }, 'corrupt', record.why);
      }
    }
  }

  #sendStored(session: Session, run: number, record: Extract<ReadRecord, { ok: true }>): void {
    const fault = session.sendStored(run, record);
    if (fault) this.#lose({ run, first: record.sequence, last: record.sequence }, 'corrupt', fault);
  }

  async #saveMarks(): Promise<void> {
    const moved = this.#marksToSave;
    this.#marksToSave = new Set();
    for (const run of this.#options.source.runs) {
      if (!moved.has(run.counter)) continue;
      await this.#options.source.saveMarks(run).catch((error: unknown) => {
        this.#marksToSave.add(run.counter);
        this.#options.logger.warn(
          { run: runName(run.id), cause: describeError(error) },
          'cannot save durable marks',
        );
      });
    }
    this.#delivery.forget();
  }

  /** The same trouble again and again is one line. */
  #say(problem: string, address: string): void {
    if (problem === this.#lastProblem) return;
    this.#lastProblem = problem;
    this.#options.logger.warn({ address }, `${problem}; samples are kept on disk and sent later`);
  }
}
