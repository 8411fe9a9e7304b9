import {
  AckPolicy,
  type ConsumerMessages,
  DeliverPolicy,
  JetStreamApiCodes,
  type JsMsg,
} from '@nats-io/jetstream';
import { nanos } from '@nats-io/transport-node';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { ALERT_SUBJECTS, decodeAlert } from '../bus/alert-message.ts';
import { hasCode, NatsLink, type NatsLinkOptions, type NatsSession } from '../bus/nats-link.ts';
import type { AlertSource } from './alert-source.ts';

const ACTION_CONSUMER = 'gpufleet_actions';
const STREAM = 'GPUFLEET_ALERTS';
/** A message that nobody acknowledged for so long goes to another aggregator. */
const ACK_WAIT_MS = 30_000;
/** Messages out at all aggregators together; each is a document or two to write. */
const MAX_ACK_PENDING = 512;
/** Messages that one aggregator holds ahead. */
const AHEAD = 16;
/** What could not be stored is given back for so long, and up to twice that. */
const GIVE_BACK_MS = 1_000;

interface ActionConsumerOptions {
  readonly nats: Omit<NatsLinkOptions, 'logger' | 'random'>;
  readonly logger: Logger;
  /** 0 (included) to 1 (excluded). */
  readonly random: () => number;
  /** When it resolves, the alert is stored for good; where it rejects, the message comes again. */
  readonly take: (alert: Alert) => Promise<void>;
}

/**
 * The alerts of the whole cluster for its actions: one durable consumer that all aggregators share, so that each
 * message goes to one of them, and to another where that one died with it. When it is first made it begins with the
 * last message of each alert: what fires now is acted on, what was long ago is not.
 */
export class ActionConsumer implements AlertSource {
  readonly #options: ActionConsumerOptions;
  #session: NatsSession | undefined;
  #messages: ConsumerMessages | undefined;
  #reading: Promise<void> = Promise.resolve();

  constructor(options: ActionConsumerOptions) {
    this.#options = options;
  }

  /** Reads until the signal aborts, over as many connections as it takes. */
  async run(signal: AbortSignal): Promise<void> {
    const { nats, logger, random } = this.#options;
    const link = new NatsLink({ ...nats, logger, random });
    await link.run(
      signal,
      (session) => this.#begin(session),
      () => this.#end(),
    );
    await this.#reading;
  }

  async current(subject: string, _id: string): Promise<Alert | undefined> {
    const session = this.#session;
    if (session === undefined)
      throw new FleetError('unavailable', 'Cannot ask for an alert: there is no connection to NATS');
    try {
      const message = await session.jsm.streams.getMessage(STREAM, { last_by_subj: subject });
      return message === null ? undefined : decodeAlert(message.string());
    } catch (cause) {
      if (hasCode(cause, JetStreamApiCodes.NoMessageFound)) return undefined;
      throw new FleetError('unavailable', 'Cannot ask for an alert: NATS did not answer', { cause });
    }
  }

  async #begin(session: NatsSession): Promise<void> {
    await session.jsm.consumers.add(STREAM, {
      durable_name: ACTION_CONSUMER,
      filter_subject: ALERT_SUBJECTS,
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(ACK_WAIT_MS),
      max_ack_pending: MAX_ACK_PENDING,
      max_deliver: -1,
      deliver_policy: DeliverPolicy.LastPerSubject,
    });
    const consumer = await session.js.consumers.get(STREAM, ACTION_CONSUMER);
    const messages = await consumer.consume({ max_messages: AHEAD });
    this.#session = session;
    this.#messages = messages;
    // One connection's reader ends before the next begins: at most one message is in work.
    this.#reading = this.#reading.then(() => this.#read(messages));
  }

  #end(): void {
    this.#session = undefined;
    this.#messages?.stop();
    this.#messages = undefined;
  }

  async #read(messages: ConsumerMessages): Promise<void> {
    try {
      for await (const message of messages) {
        if (this.#messages !== messages) return;
        await this.#handle(message);
      }
    } catch (thrown) {
      this.#options.logger.warn({ why: describeError(thrown) }, 'cannot read alerts for actions');
    }
  }

  async #handle(message: JsMsg): Promise<void> {
    const { logger, random, take } = this.#options;
    const alert = decodeAlert(message.string());
    try {
      if (alert !== undefined) await take(alert);
      message.ack();
    } catch (thrown) {
      logger.warn(
        { subject: message.subject, why: describeError(thrown) },
        'cannot store an alert for actions',
      );
      message.nak(GIVE_BACK_MS * (1 + random()));
    }
  }
}
