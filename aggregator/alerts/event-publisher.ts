import { createHash } from 'node:crypto';
import { type Counter, counter, type Registry } from '#shared/instruments/registry.ts';
import type { Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { NatsSession } from './nats-link.ts';
import { toSubject } from './subject.ts';

export const EVENT_SUBJECTS = 'gpufleet.events.>';

/** Events in memory while NATS is away. Their counts are in the store, and the agent's buffer keeps their text. */
export const MAX_QUEUED_EVENTS = 10_000;
const MAX_IN_FLIGHT = 16;

interface Message {
  readonly subject: string;
  readonly id: string;
  readonly body: string;
}

/** Publishes the text of events to `gpufleet.events.<cluster>.<node>.<type>`; the oldest go when there are too many. */
export class EventPublisher {
  readonly #queue: Message[] = [];
  readonly #dropped: Counter;
  #session: NatsSession | undefined;
  #inFlight = 0;

  constructor(registry: Registry) {
    this.#dropped = counter(registry, {
      name: 'gpufleet_events_dropped_total',
      help: 'Events whose text did not reach NATS because too many waited.',
    });
  }

  get idle(): boolean {
    return this.#queue.length === 0 && this.#inFlight === 0;
  }

  publish(source: Source, event: FleetEvent, late: boolean): void {
    if (this.#queue.length >= MAX_QUEUED_EVENTS) {
      this.#queue.shift();
      this.#dropped.inc();
    }
    this.#queue.push(toMessage(source, event, late));
    this.#pump();
  }

  begin(session: NatsSession): void {
    this.#session = session;
    this.#pump();
  }

  end(): void {
    this.#session = undefined;
  }

  #pump(): void {
    while (this.#session !== undefined && this.#inFlight < MAX_IN_FLIGHT && this.#queue.length > 0) {
      void this.#send(this.#queue.shift()!, this.#session);
    }
  }

  async #send(message: Message, session: NatsSession): Promise<void> {
    this.#inFlight++;
    try {
      await session.js.publish(message.subject, message.body, { msgID: message.id });
    } catch {
      // The id lets the server know a repeat, so that it can simply wait for the next session.
      if (this.#queue.length >= MAX_QUEUED_EVENTS) this.#dropped.inc();
      else this.#queue.unshift(message);
      if (this.#session === session) this.#session = undefined;
    } finally {
      this.#inFlight--;
      this.#pump();
    }
  }
}

function toMessage(source: Source, event: FleetEvent, late: boolean): Message {
  const body = JSON.stringify({
    cluster: source.cluster,
    node: source.node,
    type: event.type,
    time: new Date(event.timestampMs).toISOString(),
    gpu: event.gpu,
    gpu_uuid: event.gpuUuid,
    text: event.text,
    attributes: event.attributes,
    late,
  });
  return {
    subject: toSubject('gpufleet.events', source.cluster, source.node, event.type),
    id: createHash('sha256').update(body).digest('hex').slice(0, 32),
    body,
  };
}
