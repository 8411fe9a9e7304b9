import { FrameKind, HEADER_BYTES, MAX_PAYLOAD_BYTES, SLOT_BYTES } from './frames.ts';

/** One frame; `payload` is valid until the next push. */
export interface Frame {
  readonly kind: FrameKind;
  readonly id: number;
  readonly group: number;
  readonly state: number;
  readonly payload: Buffer;
}

/** Cuts a child's byte stream into frames. Throws a RangeError for what no child of ours writes. */
export class FrameReader {
  #waiting: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<Frame> {
    // Nearly always one chunk is one answer: no copy then.
    let rest = this.#waiting.length === 0 ? chunk : Buffer.concat([this.#waiting, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const size = rest.readUInt32LE(0);
      if (size > MAX_PAYLOAD_BYTES) throw new RangeError(`a frame of ${size} bytes`);
      if (rest.length < HEADER_BYTES + size) break;
      yield frameOf(rest, size);
      rest = rest.subarray(HEADER_BYTES + size);
    }
    this.#waiting = rest;
  }
}

function frameOf(bytes: Buffer, size: number): Frame {
  const kind = bytes.readUInt8(8);
  const reading = kind === FrameKind.Reading;
  if (!reading && kind !== FrameKind.Description && kind !== FrameKind.Failure)
    throw new RangeError(`a frame of kind ${kind}`);
  if (reading && size % SLOT_BYTES !== 0) throw new RangeError(`a reading of ${size} bytes`);
  return {
    kind,
    id: bytes.readUInt32LE(4),
    state: bytes.readUInt8(9),
    group: bytes.readUInt8(10),
    payload: bytes.subarray(HEADER_BYTES, HEADER_BYTES + size),
  };
}
