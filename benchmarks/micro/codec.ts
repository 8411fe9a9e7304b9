import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { loadTrace, type Trace } from '../trace.ts';

/** Encodes and decodes one-tick frames of the reference trace, and checks every value on the way back. */
export const codec: BenchCase = {
  name: 'codec',
  description: 'one-tick frames of a node with 400 series: size, and speed of one thread',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const seconds = measure(loadTrace('1s', options), options);
    const tens = measure(loadTrace('10s', options), options);
    return {
      stateful_bytes_per_sample: seconds.stateful,
      self_contained_bytes_per_sample: seconds.selfContained,
      stateful_10s_bytes_per_sample: tens.stateful,
      self_contained_10s_bytes_per_sample: tens.selfContained,
      encode_samples_per_second: seconds.encode,
      decode_samples_per_second: seconds.decode,
    };
  },
};

function measure(trace: Trace, { tiny }: BenchOptions) {
  const { dictionary, rows, timestamps } = trace;
  const states = new Uint8Array(dictionary.series.length);
  const samples = rows.length * dictionary.series.length;
  const encodeAll = (keyframes: boolean): Uint8Array[] => {
    const encoder = new FrameEncoder(dictionary);
    return rows.map((values, i) =>
      encoder.encode({ timestampMs: timestamps[i]!, values, states }, keyframes).slice(),
    );
  };
  const stateful = encodeAll(false);
  check(trace, stateful);
  const bytes = (frames: readonly Uint8Array[]): number =>
    frames.reduce((sum, frame) => sum + frame.length, 0);
  return {
    // The first frame of a stream is a keyframe: it belongs to the stream's start, not to a steady state.
    stateful: bytes(stateful.slice(1)) / (samples - dictionary.series.length),
    selfContained: bytes(encodeAll(true)) / samples,
    encode: rate(samples, tiny, () => {
      const encoder = new FrameEncoder(dictionary);
      for (let i = 0; i < rows.length; i++)
        encoder.encode({ timestampMs: timestamps[i]!, values: rows[i]!, states });
    }),
    decode: rate(samples, tiny, () => {
      const decoder = new FrameDecoder(dictionary);
      for (const frame of stateful) decoder.decode(frame);
    }),
  };
}

function check({ dictionary, rows, timestamps }: Trace, frames: readonly Uint8Array[]): void {
  const decoder = new FrameDecoder(dictionary);
  frames.forEach((frame, i) => {
    if (decoder.decode(frame) !== timestamps[i]) throw new Error(`tick ${i} came back with another time`);
    rows[i]!.forEach((value, slot) => {
      if (!Object.is(decoder.values[slot], value))
        throw new Error(`tick ${i} slot ${slot}: ${decoder.values[slot]} is not ${value}`);
    });
  });
}

function rate(samples: number, tiny: boolean, body: () => void): number {
  body();
  const until = performance.now() + (tiny ? 5 : 400);
  let rounds = 0;
  const began = performance.now();
  do {
    body();
    rounds++;
  } while (performance.now() < until);
  return (rounds * samples) / ((performance.now() - began) / 1000);
}
