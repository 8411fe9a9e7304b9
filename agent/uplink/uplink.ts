import { create } from '@bufbuild/protobuf';
import type { ChannelCredentials } from '@grpc/grpc-js';
import {
  type Ack,
  CommandOutcome,
  type CommandRequest,
  CommandResultSchema,
  type Hello,
  HelloSchema,
  type Replay,
  StatusSchema,
  type Welcome,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Registry } from '#shared/instruments/registry.ts';
import { sleep } from '#shared/lifecycle/wait.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { LossReason } from '#shared/model/loss.ts';
import { RangeSet } from '#shared/model/range-set.ts';
import { runName } from '#shared/model/run.ts';
import { RecordKind } from '#shared/wire/record.ts';
import { AcceptedLog } from './accepted-log.ts';
import { Backoff } from './backoff.ts';
import { Delivery, type RunRange, type Undecided } from './delivery.ts';
import { openIngestStream } from './ingest-stream.ts';
import { contiguous, describeLost } from './lost-records.ts';
import type { LiveRecord, ReadRecord, RecordSource } from './record-source.ts';
import { Session } from './session.ts';
import { uplinkMetrics } from './uplink-metrics.ts';

/** What became of a command, as the uplink passes it on. */
interface CommandReply {
  readonly outcome: 'running' | 'succeeded' | 'failed' | 'timed_out' | 'interrupted' | 'refused' | 'busy';
  readonly status: number;
  readonly output: string;
}

/** What an aggregator may have this agent do. */
export interface CommandDesk {
  readonly names: readonly string[];
  /** Never rejects; `onRunning` is called first where the command runs. */
  run(
    ask: { readonly id: string; readonly name: string; readonly values: Readonly<Record<string, string>> },
    onRunning: () => void,
  ): Promise<CommandReply>;
}

/** Versions of the protocol that this agent speaks. */
export const PROTOCOL_VERSION = 2;
const OLDEST_PROTOCOL_VERSION = 1;

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
  /** Undefined where commands are not to be taken: none are listed, or the stream is no mutual TLS. */
  readonly commands?: CommandDesk | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly registry: Registry;
}

const COMMAND_OUTCOMES = {
  running: CommandOutcome.RUNNING,
  succeeded: CommandOutcome.SUCCEEDED,
  failed: CommandOutcome.FAILED,
  timed_out: CommandOutcome.TIMED_OUT,
  interrupted: CommandOutcome.INTERRUPTED,
  refused: CommandOutcome.REFUSED,
  busy: CommandOutcome.BUSY,
} as const;

/** Backfill is read and sent in pieces of this size, so that a live tick never waits behind more. */
const BACKFILL_READ_BYTES = 64 * 1024;
const SAVE_MARKS_EVERY_MS = 5_000;
/** A quarter of the deadline that it watches. */
const CHECK_ANSWERS_EVERY_MS = 5_000;
/** How often the aggregator hears how far behind this agent is; more often while it is. */
const STATUS_EVERY_MS = 30_000;
/** A rate that grew by this factor since it was told is told at once. */
const NEWS = 1.25;
const STATUS_BEHIND_EVERY_MS = 5_000;
/** After records were deferred, backlog waits this long: they would only be deferred again. */
const DEFERRED_PAUSE_MS = 1_000;
/** Weight of the newest tick in the average of samples a record. */
const AVERAGE_WEIGHT = 0.05;
/** Replays that this agent remembers having done; an aggregator offers none that is older. */
const MAX_REPLAYS_DONE = 100;
const SAVE_ACCEPTED_EVERY_MS = 20_000;
const REPLAYS_DONE = 'uplink/replays';
const UNDECIDED = 'uplink/undecided';
/** Of a run that ended in a crash, so much is sent before everything older. */
const BLACK_BOX_MS = 300_000;

/** As `gpufleet-agent status` shows it: docstrings in agent/control/agent-status.ts. */
interface UplinkState {
  readonly connected: boolean;
  readonly aggregator: string;
  readonly problem: string;
  readonly clock_skew_ms: number | null;
  readonly pending_records: number;
  readonly pending_samples: number;
  readonly oldest_not_durable_ms: number | null;
}

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
  /** Connected, or tried last. */
  #address = '';
  #skewMs: number | undefined;
  #pausedUntil = 0;
  readonly #acceptedLog: AcceptedLog;
  /** What is sent once more, by run: of these only ticks are, events were heard and do not happen twice. */
  readonly #again = new Map<number, RangeSet>();
  #replaying: Promise<void> = Promise.resolve();
  /** Of the newest ticks; 0 before the first. */
  #samplesPerTick = 0;
  /** Samples a second of each group's newest tick. */
  readonly #rates = new Map<string, number>();
  #toldAt = 0;
  #toldRate = 0;

  constructor(options: UplinkOptions) {
    this.#options = options;
    const { source, clock } = options;
    this.#delivery = new Delivery(
      () => source.runs,
      parseUndecided(source.fact(UNDECIDED)),
      clock.monotonic(),
    );
    options.source.askFate((run, sequence) => this.#delivery.fateOf(run, sequence));
    this.#backoff = new Backoff(options.random);
    this.#acceptedLog = new AcceptedLog(options.clock, options.source);
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

  /** Where the stream and what waits for it stand, for people. A few reads of the buffer. */
  async status(): Promise<UplinkState> {
    const pending = this.#delivery.pendingRecords(this.#liveThrough);
    return {
      connected: this.connected,
      aggregator: this.#address,
      problem: this.connected ? '' : this.#lastProblem,
      clock_skew_ms: this.#skewMs ?? null,
      pending_records: pending,
      pending_samples: Math.round(pending * this.#samplesPerRecord),
      oldest_not_durable_ms: (await this.#oldestNotDurableMs()) ?? null,
    };
  }

  #oldestNotDurableMs(): Promise<number | undefined> {
    const { source } = this.#options;
    const oldest = this.#delivery.oldestUndurable(this.#liveThrough);
    const run = oldest && source.runs.find((one) => one.counter === oldest.run);
    return run && oldest ? source.timeOf(run, oldest.sequence) : Promise.resolve(undefined);
  }

  /** Connects, and again, until the signal aborts; then drains for a moment and returns. */
  async run(signal: AbortSignal): Promise<void> {
    const saving = setInterval(() => {
      this.#sendLosses();
      void this.#saveMarks();
    }, SAVE_MARKS_EVERY_MS);
    const logging = setInterval(() => this.#acceptedLog.save(), SAVE_ACCEPTED_EVERY_MS);
    const telling = setInterval(() => this.#tellStatusIfDue(), STATUS_BEHIND_EVERY_MS);
    try {
      await this.#preferBlackBox();
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
      clearInterval(telling);
      clearInterval(logging);
      this.#acceptedLog.save();
      await this.#replaying;
      await this.#pumping?.catch(() => {});
      await this.#saveMarks();
    }
  }

  /** A new record, which is on disk or about to be. Sends it live if it can; if not, it follows from there. */
  offer(record: LiveRecord): void {
    this.#liveThrough = Math.max(this.#liveThrough, record.sequence);
    if ('tick' in record) this.#count(record.tick, record.samples);
    const session = this.#session;
    if (!session?.welcomed) return;
    if (this.#delivery.inFlightBytes('live') + record.bytes > session.windowBytes) {
      this.#metrics.liveSkipped.inc();
      this.#pump();
      return;
    }
    if ('tick' in record) session.sendLiveTick(record);
    else session.sendEvent(session.liveRun, record.sequence, record.event, record.bytes, 'live');
    // With a tick it travels in the same packet.
    this.#tellStatusIfDue(STATUS_BEHIND_EVERY_MS);
    this.#pump();
  }

  async #connect(address: string, signal: AbortSignal): Promise<void> {
    const { credentials, source } = this.#options;
    this.#address = address;
    const token = await this.#options.token();
    let session: Session | undefined;
    const stream = openIngestStream(address, credentials, token, (response) => session?.receive(response));
    session = new Session(stream, this.#delivery, source, this.#options.clock, {
      welcome: (welcome) => this.#welcomed(address, welcome),
      ack: (ack) => this.#acked(ack),
      replay: (replay) => this.#replay(replay),
      command: (request) => void this.#command(session!, request),
      sent: (lane, records, bytes) => {
        this.#metrics.sentRecords.inc({ lane }, records);
        this.#metrics.sentBytes.inc({ lane }, bytes);
      },
    });
    this.#session = session;
    const watchdog = setInterval(() => session.checkAnswers(), CHECK_ANSWERS_EVERY_MS);
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
      oldestProtocolVersion: OLDEST_PROTOCOL_VERSION,
      wallTimeUnixMs: BigInt(clock.now()),
      commands: [...(this.#options.commands?.names ?? [])],
      runs: source.runs.map((run) => ({
        id: run.id,
        firstSequence: BigInt(run.first),
        lastSequence: BigInt(run.last),
        cleanEnd: run.cleanEnd,
      })),
    });
  }

  /** The result goes to the stream that asked, or nowhere: whoever wants it then asks again. */
  async #command(session: Session, { id, name, arguments: values }: CommandRequest): Promise<void> {
    const { commands } = this.#options;
    const tell = ({ outcome, status, output }: CommandReply): void => {
      if (this.#session === session)
        session.sendCommandResult(
          create(CommandResultSchema, { id, outcome: COMMAND_OUTCOMES[outcome], status, output }),
        );
    };
    const refused =
      'this agent takes no commands on this stream: it needs commands, and tls with cert and key';
    tell(
      commands
        ? await commands.run({ id, name, values }, () => tell({ outcome: 'running', status: -1, output: '' }))
        : { outcome: 'refused', status: -1, output: refused },
    );
  }

  #welcomed(address: string, welcome: Welcome): void {
    if (welcome.protocolVersion < OLDEST_PROTOCOL_VERSION || welcome.protocolVersion > PROTOCOL_VERSION) {
      throw new FleetError(
        'version_mismatch',
        `Cannot stream to ${address}: it chose protocol ${welcome.protocolVersion}, this agent speaks ${OLDEST_PROTOCOL_VERSION} to ${PROTOCOL_VERSION}`,
      );
    }
    this.#backoff.reset();
    this.#lastProblem = '';
    this.#skewMs = Math.round(this.#options.clock.now() - Number(welcome.wallTimeUnixMs));
    const pending = this.#delivery.pendingRecords(this.#liveThrough);
    this.#options.logger.info({ address, shard: welcome.shard, pending }, 'connected to aggregator');
    this.#tellStatus();
    for (const replay of welcome.replays) this.#replay(replay);
    this.#pump();
  }

  #acked(ack: Ack): void {
    const session = this.#session;
    if (!session) return;
    const now = this.#options.clock.monotonic();
    for (const { run, first, last } of ack.accepted) {
      const counter = session.counterOf(run);
      if (counter === undefined) continue;
      const range = { run: counter, first: Number(first), last: Number(last) };
      this.#delivery.accepted(range, ack.storeEpoch, now);
      this.#acceptedLog.add(range);
      this.#metrics.acceptedRecords.inc(range.last - range.first + 1);
    }
    for (const { run, first, last } of ack.deferred) {
      const counter = session.counterOf(run);
      if (counter !== undefined)
        this.#delivery.deferred({ run: counter, first: Number(first), last: Number(last) });
    }
    if (ack.deferred.length > 0) {
      this.#pausedUntil = now + DEFERRED_PAUSE_MS;
      setTimeout(() => this.#pump(), DEFERRED_PAUSE_MS + 1).unref();
    }
    for (const refusal of ack.refused) this.#refused(session, refusal.range, refusal.reason, refusal.detail);
    const { moved, again } = this.#delivery.observe(ack.storeEpoch, now - ack.epochAgeMs);
    for (const run of moved) this.#marksToSave.add(run);
    const { source } = this.#options;
    if (moved.has(source.live.counter)) {
      for (const { first, last } of source.live.durable.ranges)
        source.settleUnbuffered(source.live, first, last, 'stored');
    }
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
    void this.#lose(refused, 'refused', `The aggregator refused them (${reason}): ${detail}`);
  }

  /** Records that will never be delivered: said as a loss record, and not tried again. */
  async #lose(range: RunRange, reason: LossReason, detail: string): Promise<void> {
    const { source, logger, clock } = this.#options;
    this.#delivery.settled(range);
    this.#marksToSave.add(range.run);
    const run = source.runs.find((one) => one.counter === range.run);
    try {
      const lost = run && (await describeLost(source, run, range, this.#samplesPerRecord));
      // Events, dictionaries and losses hold no samples: what they say is in the log.
      if (lost && lost.samples === 0 && !lost.estimated) return;
      const text = `Records ${range.first} to ${range.last} of run ${range.run}: ${detail}`;
      const { fromMs = 0, toMs = 0, samples = 0, estimated = true } = lost ?? {};
      await source.appendLoss({
        fromMs,
        toMs: toMs || clock.now(),
        samples,
        reason,
        estimated,
        detail: text.slice(0, 1000),
      });
      // The loss first: said twice is better than never.
      if (run) await source.saveMarks(run);
    } catch (error) {
      logger.error({ cause: describeError(error), reason, ...range }, 'cannot record a loss');
    }
  }

  /** Makes a part of the buffer pending again, once for each order. */
  #replay(order: Replay): void {
    const { logger } = this.#options;
    this.#replaying = this.#replaying
      .then(() => this.#replayOnce(order))
      .catch((error: unknown) =>
        logger.error(
          { id: order.id, cause: describeError(error) },
          'cannot replay; it is tried again with the next stream',
        ),
      );
  }

  async #replayOnce({ id, fromUnixMs, toUnixMs, acceptedWithinMs, reason }: Replay): Promise<void> {
    const { source, logger } = this.#options;
    const done = replaysDone(source.fact(REPLAYS_DONE));
    if (id === '' || done.includes(id)) return;
    const accepted = acceptedWithinMs > 0n ? this.#acceptedLog.within(Number(acceptedWithinMs)) : [];
    const ranges = [...accepted];
    for (const run of source.runs) {
      const first = await source.firstAtOrAfter(run, Number(fromUnixMs));
      if (first === undefined) continue;
      const end = toUnixMs > 0n ? await source.firstAtOrAfter(run, Number(toUnixMs) + 1) : undefined;
      ranges.push({ run: run.counter, first, last: (end ?? run.last + 1) - 1 });
    }
    let records = 0;
    for (const range of ranges) {
      for (const { first, last } of this.#delivery.replay(range)) {
        records += last - first + 1;
        const again = this.#again.get(range.run) ?? new RangeSet();
        this.#again.set(range.run, again);
        again.add(first, last);
      }
    }
    // Taken and said in one batch: between the two nobody would know of them.
    const departed = source.takeDeparted(accepted);
    if (departed) {
      const { records: count, ...lost } = departed;
      const detail = `${count} records had left the ring when they were to be sent again (${reason}): lost if the store lost them`;
      await source.appendLoss({ ...lost, reason: 'trimmed', estimated: true, detail: detail.slice(0, 1000) });
    }
    // Before the order counts as done: done and not lowered would be a hole.
    for (const run of source.runs) await source.saveMarks(run);
    this.#saveUndecided();
    source.saveFact(REPLAYS_DONE, JSON.stringify([...done, id].slice(-MAX_REPLAYS_DONE)));
    this.#metrics.replayed.inc(records);
    const from = new Date(Number(fromUnixMs)).toISOString();
    logger.warn({ id, reason, records, from }, 'sending again, as asked');
    this.#pump();
  }

  /** What was never on disk is lost now; the buffer counts it. */
  #withoutUnbuffered(run: RecordSource['runs'][number], records: readonly ReadRecord[]): ReadRecord[] {
    return records.filter((record) => {
      if (record.ok || record.unbuffered !== true) return true;
      const { sequence } = record;
      this.#delivery.settled({ run: run.counter, first: sequence, last: sequence });
      this.#options.source.settleUnbuffered(run, sequence, sequence, 'lost');
      return false;
    });
  }

  /** Of what was heard before, only ticks are sent again. */
  #withoutHeard(run: number, records: readonly ReadRecord[]): ReadRecord[] {
    const again = this.#again.get(run);
    if (!again) return [...records];
    return records.filter((record) => {
      const { sequence } = record;
      if (!again.has(sequence)) return true;
      again.delete(sequence);
      if (again.ranges.length === 0) this.#again.delete(run);
      if (!record.ok || record.kind === RecordKind.Tick) return true;
      this.#delivery.settled({ run, first: sequence, last: sequence });
      this.#marksToSave.add(run);
      return false;
    });
  }

  #count({ dictionary }: Tick, samples: number): void {
    this.#rates.set(dictionary.group, (samples * 1000) / dictionary.intervalMs);
    const before = this.#samplesPerTick || samples;
    this.#samplesPerTick = before + AVERAGE_WEIGHT * (samples - before);
  }

  /** What a record holds that cannot be read, or is not. Before the first tick of a start the series known from disk say. */
  get #samplesPerRecord(): number {
    return this.#samplesPerTick || this.#options.source.dictionaries.meanSeries;
  }

  get #samplesPerSecond(): number {
    let sum = 0;
    for (const rate of this.#rates.values()) sum += rate;
    return sum;
  }

  /** `early` is how long before its time it may be told. */
  #tellStatusIfDue(early = 0): void {
    const sinceMs = this.#options.clock.monotonic() - this.#toldAt;
    // The first ticks of a run, group after group: nobody knows yet what losing it would cost.
    const isNews = this.#samplesPerSecond > NEWS * this.#toldRate;
    if (!isNews && sinceMs < STATUS_BEHIND_EVERY_MS - early / 2) return;
    const behind = this.#delivery.pendingRecords(this.#liveThrough) > 0;
    if (isNews || behind || sinceMs >= STATUS_EVERY_MS - early) this.#tellStatus();
  }

  #tellStatus(): void {
    const session = this.#session;
    if (!session?.welcomed) return;
    const { clock, logger } = this.#options;
    const samplesPerSecond = this.#samplesPerSecond;
    this.#toldAt = clock.monotonic();
    this.#toldRate = samplesPerSecond;
    const pending = this.#delivery.pendingRecords(this.#liveThrough);
    this.#oldestNotDurableMs()
      .then((timeMs) =>
        session.sendStatus(
          create(StatusSchema, {
            oldestUndurableUnixMs: BigInt(timeMs ?? 0),
            pendingRecords: BigInt(pending),
            pendingSamples: BigInt(Math.round(pending * this.#samplesPerRecord)),
            samplesPerSecond,
          }),
        ),
      )
      .catch((error: unknown) => logger.warn({ cause: describeError(error) }, 'cannot say how far behind'));
  }

  /** The last minutes of the run before, where it ended in a crash or a power cut. */
  async #preferBlackBox(): Promise<void> {
    const { source, logger } = this.#options;
    const before = source.runs.at(-2);
    if (!before || before.cleanEnd || before.last < before.first) return;
    try {
      const endMs = await source.timeOf(before, before.last);
      const first = await source.firstAtOrAfter(before, (endMs ?? 0) - BLACK_BOX_MS);
      if (endMs === undefined || first === undefined) return;
      this.#delivery.prefer({ run: before.counter, first, last: before.last });
      const records = before.last - first + 1;
      logger.info({ records }, 'the run before did not end in order: its last minutes go first');
    } catch (error) {
      logger.warn({ cause: describeError(error) }, 'cannot find the last minutes of the run before');
    }
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
      if (this.#options.clock.monotonic() < this.#pausedUntil) return;
      const room = session.backfillWindowBytes - this.#delivery.inFlightBytes('backfill');
      const next = this.#delivery.nextPending(this.#liveThrough);
      const run = next && source.runs.find((one) => one.counter === next.run);
      if (!next || !run || room <= 0) return;
      const records = await source.read(run, next.first, next.last, Math.min(room, BACKFILL_READ_BYTES));
      if (session !== this.#session || records.length === 0) return;
      // An event that was awaited here was offered meanwhile, and went live.
      const pending = records.filter(({ sequence }) => !this.#delivery.fateOf(next.run, sequence));
      const there = this.#withoutUnbuffered(run, pending);
      const faults = session.sendStored(next.run, this.#withoutHeard(next.run, there));
      for (const { first, last, why } of contiguous(faults))
        await this.#lose({ run: next.run, first, last }, 'corrupt', why);
    }
  }

  /** Also where no source can be read, and so nothing is offered: then the ledger is all that is left to say. */
  #sendLosses(): void {
    const { lossesThrough } = this.#options.source;
    if (lossesThrough <= this.#liveThrough) return;
    this.#liveThrough = lossesThrough;
    this.#pump();
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
    this.#saveUndecided();
    this.#delivery.forget();
  }

  #saveUndecided(): void {
    const { source } = this.#options;
    const text = JSON.stringify(this.#delivery.undecided(), (_, value) =>
      typeof value === 'bigint' ? String(value) : value,
    );
    if (text !== (source.fact(UNDECIDED) ?? '[]')) source.saveFact(UNDECIDED, text);
  }

  /** The same trouble again and again is one line. */
  #say(problem: string, address: string): void {
    if (problem === this.#lastProblem) return;
    this.#lastProblem = problem;
    this.#options.logger.warn({ address }, `${problem}; samples are kept on disk and sent later`);
  }
}

/** A fact that cannot be read says nothing: those records are sent again. */
function parseUndecided(fact: string | undefined): Undecided[] {
  try {
    const stored = JSON.parse(fact ?? '[]') as { run: number; first: number; last: number; epoch: string }[];
    return stored.map((one) => ({ ...one, epoch: BigInt(one.epoch) }));
  } catch {
    return [];
  }
}

function replaysDone(fact: string | undefined): string[] {
  try {
    const done: unknown = JSON.parse(fact ?? '[]');
    return Array.isArray(done) ? done.filter((id) => typeof id === 'string') : [];
  } catch {
    return [];
  }
}
