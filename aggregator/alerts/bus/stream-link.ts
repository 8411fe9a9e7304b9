import { headers } from '@nats-io/transport-node';
import {
  ensureStream,
  NatsLink,
  type NatsLinkOptions,
  type NatsLinkStatus,
  type NatsSession,
  type StreamSettings,
} from './nats-link.ts';

/** Publishes to JetStream over one connection: what a stage that is not about alerts needs of NATS. */
export interface StreamDoor {
  /** Resolves when the message is stored; rejects where it is not. */
  publish(subject: string, body: Uint8Array | string, head: Readonly<Record<string, string>>): Promise<void>;
}

export interface StreamLinkOptions extends NatsLinkOptions {
  /** Made where they are missing, before `begin`. */
  readonly streams: readonly { readonly subjects: string; readonly settings: StreamSettings }[];
  /** At each connection. */
  readonly begin: (door: StreamDoor) => void;
  readonly end: () => void;
}

/** A connection of its own for bulk: it has no place in front of an alert in any socket. */
export class StreamLink implements AsyncDisposable {
  readonly #link: NatsLink;
  readonly #stop = new AbortController();
  readonly #run: Promise<void>;

  constructor(options: StreamLinkOptions) {
    this.#link = new NatsLink(options);
    const begin = async (session: NatsSession): Promise<void> => {
      for (const { settings, subjects } of options.streams)
        await ensureStream(session.jsm, settings, subjects);
      options.begin(doorOf(session));
    };
    this.#run = this.#link.run(this.#stop.signal, begin, options.end);
  }

  status(): NatsLinkStatus {
    return this.#link.status();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#run;
  }
}

function doorOf({ js }: NatsSession): StreamDoor {
  return {
    async publish(subject, body, head) {
      const wire = headers();
      for (const name in head) wire.set(name, head[name]!);
      await js.publish(subject, body, { headers: wire });
    },
  };
}
