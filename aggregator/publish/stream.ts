export type Headers = Readonly<Record<string, string>>;

/** Where messages go while there is a connection. */
export interface Stream {
  /** Resolves when the message is stored; rejects where it is not. May be called again before that. */
  publish(subject: string, body: Uint8Array | string, headers: Headers): Promise<void>;
}

/** A JetStream stream that has to be there before anything is published; made where it is missing. */
export interface StreamWish {
  readonly subjects: string;
  readonly settings: {
    readonly name: string;
    readonly replicas: number;
    readonly maxBytes: number;
    readonly maxAgeMs: number;
    /** -1 for no limit. */
    readonly maxPerSubject: number;
  };
}

export interface Message {
  readonly subject: string;
  readonly body: Uint8Array | string;
  readonly headers: Headers;
  /** Told when the message will never be stored. */
  readonly onDropped?: () => void;
}
