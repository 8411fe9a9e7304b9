import { expect, test } from 'vitest';
import { type Frame, FrameReader } from '../../../../agent/collect/probe/frame-reader.ts';
import { HEADER_BYTES } from '../../../../agent/collect/probe/frames.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';

function frame(kind: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt32LE(payload.length, 0);
  head.writeUInt32LE(7, 4);
  head.writeUInt8(kind, 8);
  return Buffer.concat([head, payload]);
}

const STREAM = Buffer.concat([
  frame(1, Buffer.from('{"a":1}')),
  frame(2, Buffer.alloc(18, 5)),
  frame(3, Buffer.from('no')),
]);

function read(chunks: readonly Buffer[]): string[] {
  const reader = new FrameReader();
  const frames: string[] = [];
  const take = ({ kind, id, payload }: Frame): void =>
    void frames.push(`${kind} ${id} ${payload.toString('hex')}`);
  for (const chunk of chunks) for (const one of reader.push(chunk)) take(one);
  return frames;
}

// Lost without it: a reading that the kernel delivers in two pieces ends the probe.
test('finds the frames wherever the stream is cut', () => {
  const whole = read([STREAM]);
  expect(whole).toHaveLength(3);
  for (let cut = 1; cut < STREAM.length; cut++)
    expect(read([STREAM.subarray(0, cut), STREAM.subarray(cut)])).toEqual(whole);
  expect(read([...STREAM].map((byte) => Buffer.of(byte)))).toEqual(whole);
});

// Lost without it: a library that writes over the child's memory takes the agent's memory with it.
test('refuses what no child writes, or waits, and never throws anything else', () => {
  for (const { what, bytes } of damagedInputs(STREAM, 4)) {
    try {
      expect(read([bytes]).length, what).toBeLessThanOrEqual(3 + bytes.length / HEADER_BYTES);
    } catch (error) {
      expect(error, what).toBeInstanceOf(RangeError);
    }
  }
  expect(() => read([frame(2, Buffer.alloc(10))])).toThrow(RangeError);
  const huge = Buffer.alloc(HEADER_BYTES);
  huge.writeUInt32LE(0xffffffff, 0);
  expect(() => read([huge])).toThrow(RangeError);
});
