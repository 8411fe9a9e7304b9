import { createHash } from 'node:crypto';
import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { EventSpool, SpooledEvent } from './event-spool.ts';
import type { NatsSession } from './nats-link.ts';
import { toSubject } from './subject.ts';

export const EVENT_SUBJECTS = 'gpufleet.events.>';

const MAX_IN_FLIGHT = 16;
/** Wait before what NATS did not take is tried again on the same connection. */
const RETRY_MS = 500;

/** What is known of a GPU or node beside the event: pool, rack, serial. May change between two copies of one event. */
export type EventContext = Readonly<Record<string, string>>;

/** Publishes the text of events to `gpufleet.events.<cluster>.<node>.<type>`, from the spool and in its order. */
export class EventPublisher {
  readonly #spool: EventSpool;
  readonly #logger: Logger;
  #session: NatsSession | undefined;
  /** The newest sequence that was handed to this session. */
  #after = 0;
  #pumping: Promise<void> | undefined;
  #again = false;
  #retry: NodeJS.Timeout | undefined;
  readonly #retryMs: number;

  constructor(spool: EventSpool, logger: Logger, retryMs = RETRY_MS) {
    this.#spool = spool;
    this.#logger = logger;
    this.#retryMs = retryMs;
  }

  /** Nothing waits for the stream. */
  get idle(): boolean {
    return this.#spool.count === 0 || this.#session === undefined;
  }

  /** Resolves when the event is on disk. `context` joins its attributes, and is no part of what it is. */
  async publish(source: Source, event: FleetEvent, late: boolean, context: EventContext = {}): Promise<void> {
    await this.#spool.append(toMessage(source, event, late, context));
    this.#pump();
  }

  begin(session: NatsSession): void {
    this.end();
    this.#session = session;
    this.#after = 0;
    this.#pump();
  }

  end(): void {
    this.#session = undefined;
    clearTimeout(this.#retry);
    this.#retry = undefined;
  }

  /** Resolves when nothing is under way any more. */
  async settled(): Promise<void> {
    await this.#pumping;
  }

  #pump(): void {
    this.#again = true;
    // While NATS refuses, what comes waits in line with the rest.
    if (this.#retry === undefined) this.#pumping ??= this.#run();
  }

  /** Tries again, from the first event on: what is in the stream is no longer in the spool. */
  #later(): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      this.#after = 0;
      this.#pump();
    }, this.#retryMs);
  }

  async #run(): Promise<void> {
    try {
      await this.#publishAll();
    } catch (error) {
      this.#logger.error({ why: describeError(error) }, 'cannot read the event spool');
      if (this.#session !== undefined) this.#later();
    }
    this.#pumping = undefined;
    // Something came after the last look at what there is.
    if (this.#again && this.#session !== undefined) this.#pump();
  }

  async #publishAll(): Promise<void> {
    while (this.#session !== undefined) {
      const session = this.#session;
      this.#again = false;
      const events = await this.#spool.after(this.#after, MAX_IN_FLIGHT);
      // Another session began meanwhile, and with the first event.
      if (this.#session !== session) continue;
      if (events.length === 0) {
        if (this.#again) continue;
        return;
      }
      this.#after = events.at(-1)!.seq;
      const sent = await Promise.all(events.map(({ seq, event }) => this.#send(seq, event, session)));
      // What failed stays in the spool. The connection may be there all the same, for days.
      if (!sent.includes(false) || this.#session !== session) continue;
      this.#later();
      return;
    }
  }

  async #send(seq: number, event: SpooledEvent, session: NatsSession): Promise<boolean> {
    try {
      await session.js.publish(event.subject, event.body, { msgID: event.id });
    } catch {
      return false;
    }
    // One that the disk does not let go of is sent again by the next session, under its id.
    await this.#spool.sent(seq).catch((error: unknown) => {
      this.#logger.error({ why: describeError(error) }, 'cannot mark a published event in the spool');
    });
    return true;
  }
}

function toMessage(source: Source, event: FleetEvent, late: boolean, context: EventContext): SpooledEvent {
  const what = {
    cluster: source.cluster,
    node: source.node,
    type: event.type,
    time: new Date(event.timestampMs).toISOString(),
    gpu: event.gpu,
    gpu_uuid: event.gpuUuid,
    text: event.text,
    attributes: event.attributes,
  };
  // Live, and again as backlog: it is one event.
  const id = createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 32);
  return {
    subject: toSubject('gpufleet.events', source.cluster, source.node, event.type),
    id,
    body: JSON.stringify({ ...what, attributes: { ...context, ...event.attributes }, late }),
  };
}
