/*
 * As much of HTTP/2 (RFC 9113) as one gRPC call on one connection needs: a load of ten thousand streams must cost
 * less than what it measures. No flow control: what either side sends in a measurement stays below the first window
 * of 64 KiB towards us, and below the aggregator's own of 1 MiB towards it.
 *
 *   length (3) | type (1) | flags (1) | stream (4) | payload
 */
const HEADER_BYTES = 9;
/** Until the peer allows more. */
const MAX_FRAME_BYTES = 16_384;
/** A gRPC message begins with "compressed" (1 byte) and its length (4). */
const PREFIX_BYTES = 5;

const Type = { Data: 0, Headers: 1, Reset: 3, Settings: 4, Ping: 6, GoAway: 7 } as const;
const ACK = 0x1;
const END_STREAM = 0x1;
const END_HEADERS = 0x4;
const STREAM = 1;

/** What a client says first: preface, settings as they are, and the request of one call. */
export function openingFrames(authority: string, path: string): Buffer {
  // Indices of RFC 7541's static table; everything else as plain literals.
  const headers = Buffer.concat([
    Buffer.of(0x83, 0x86), // :method POST, :scheme http
    Buffer.of(0x01),
    literal(authority), // :authority
    Buffer.of(0x04),
    literal(path), // :path
    Buffer.of(0x0f, 0x10),
    literal('application/grpc'), // content-type
    Buffer.of(0x00),
    literal('te'),
    literal('trailers'),
  ]);
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(Type.Settings, 0, 0, Buffer.alloc(0)),
    frame(Type.Headers, END_HEADERS, STREAM, headers),
  ]);
}

/** One gRPC message of the call, as DATA frames. */
export function dataFrame(message: Uint8Array): Buffer {
  const body = Buffer.alloc(PREFIX_BYTES + message.length);
  body.writeUInt32BE(message.length, 1);
  body.set(message, PREFIX_BYTES);
  const frames: Buffer[] = [];
  for (let at = 0; at < body.length; at += MAX_FRAME_BYTES)
    frames.push(frame(Type.Data, 0, STREAM, body.subarray(at, at + MAX_FRAME_BYTES)));
  return Buffer.concat(frames);
}

export interface GrpcReaderEvents {
  /** A gRPC message, valid during the call. */
  message(bytes: Buffer): void;
  /** Bytes that the connection must send back. */
  reply(bytes: Buffer): void;
}

/** The other direction: gRPC messages out of chunks as they come. Throws when the call or the connection ends. */
export class GrpcReader {
  readonly #events: GrpcReaderEvents;
  #chunk: Buffer = Buffer.alloc(0);
  #body: Buffer = Buffer.alloc(0);

  constructor(events: GrpcReaderEvents) {
    this.#events = events;
  }

  read(chunk: Buffer): void {
    let rest = this.#chunk.length === 0 ? chunk : Buffer.concat([this.#chunk, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const end = HEADER_BYTES + rest.readUIntBE(0, 3);
      if (rest.length < end) break;
      this.#frame(rest[3]!, rest[4]!, rest.subarray(HEADER_BYTES, end));
      rest = rest.subarray(end);
    }
    this.#chunk = rest;
  }

  #frame(type: number, flags: number, payload: Buffer): void {
    switch (type) {
      case Type.Data:
        this.#data(payload);
        break;
      case Type.Settings:
        if ((flags & ACK) === 0) this.#events.reply(frame(Type.Settings, ACK, 0, Buffer.alloc(0)));
        break;
      case Type.Ping:
        if ((flags & ACK) === 0) this.#events.reply(frame(Type.Ping, ACK, 0, payload));
        break;
      case Type.Headers:
        if ((flags & END_STREAM) !== 0) throw new Error(`the call was ended: ${payload.toString('latin1')}`);
        break;
      case Type.Reset:
      case Type.GoAway:
        throw new Error(`the connection was ended: ${payload.toString('latin1')}`);
    }
  }

  #data(payload: Buffer): void {
    let rest = this.#body.length === 0 ? payload : Buffer.concat([this.#body, payload]);
    while (rest.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + rest.readUInt32BE(1);
      if (rest.length < end) break;
      this.#events.message(rest.subarray(PREFIX_BYTES, end));
      rest = rest.subarray(end);
    }
    this.#body = rest;
  }
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** A string of less than 127 bytes, not Huffman coded. */
function literal(text: string): Buffer {
  return Buffer.from([text.length, ...Buffer.from(text, 'latin1')]);
}
