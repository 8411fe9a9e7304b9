import { seededRandom } from './random.ts';

/** Bytes that tip over varints, lengths and flags. */
const TELLING = [0x00, 0x01, 0x02, 0x03, 0x08, 0x12, 0x1a, 0x7f, 0x80, 0x81, 0xf7, 0xff];

/**
 * Until it is disposed, errors remember only where they were made: half of the inputs make one, and a whole stack
 * takes longer than all the rest of an input.
 */
export function shortStacks(): Disposable {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 3;
  return {
    [Symbol.dispose]: () => {
      Error.stackTraceLimit = before;
    },
  };
}

/** Seeded choices for a fuzz test: the same seed gives the same inputs. */
export class Fuzz {
  readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  /** An integer from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.random() * end);
  }

  chance(share: number): boolean {
    return this.random() < share;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  noise(most: number): Uint8Array {
    return Uint8Array.from({ length: this.below(most) }, () => this.below(256));
  }

  /** A few edits of one of the seeds: flips, telling bytes, cuts, repeats, insertions, and the end of another seed. */
  mutate(seeds: readonly Uint8Array[]): Uint8Array {
    // Not slice: a Buffer's is a view, and the edits would be in the seed.
    let bytes: Uint8Array = Uint8Array.from(this.pick(seeds));
    for (let edits = 1 + this.below(4); edits > 0; edits--) bytes = this.#edit(bytes, seeds);
    return bytes;
  }

  #edit(bytes: Uint8Array, seeds: readonly Uint8Array[]): Uint8Array {
    const at = this.below(bytes.length + 1);
    const to = Math.min(bytes.length, at + 1 + this.below(16));
    switch (this.below(7)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << this.below(8);
        return bytes;
      case 1:
        if (at < bytes.length) bytes[at] = this.pick(TELLING);
        return bytes;
      case 2:
        return bytes.slice(0, at);
      case 3:
        return joined(bytes.subarray(0, at), bytes.subarray(to));
      case 4:
        return joined(bytes.subarray(0, to), bytes.subarray(at));
      case 5:
        return joined(
          bytes.subarray(0, at),
          Uint8Array.from({ length: 1 + this.below(9) }, () => this.pick(TELLING)),
          bytes.subarray(at),
        );
      default: {
        const other = this.pick(seeds);
        return joined(bytes.subarray(0, at), other.subarray(this.below(other.length + 1)));
      }
    }
  }
}

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
