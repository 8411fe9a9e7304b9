/**
 * A seeded stream of random numbers: the same seed words give the same stream on every machine, which
 * Math.random does not promise. xoshiro128** (Blackman and Vigna, 2018), its state filled by splitmix32 from an
 * FNV-1a hash of the seed. Good enough to simulate with, not for secrets.
 */
export class Prng {
  readonly #state = new Uint32Array(4);

  /** Every word counts: ('1', 'node-a') and ('1', 'node-b') give unrelated streams. */
  constructor(...seed: readonly (string | number)[]) {
    let mixed = fnv1a(seed.join('\0'));
    for (let i = 0; i < 4; i++) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      this.#state[i] = scramble(mixed);
    }
    // An all-zero state would stay so for ever.
    this.#state[0]! |= 1;
  }

  /** An integer, 0 to 2^32 - 1. */
  uint32(): number {
    const s = this.#state;
    const s1 = s[1]!;
    const product = Math.imul(s1, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    s[2]! ^= s[0]!;
    s[3]! ^= s1;
    s[1] = s1 ^ s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= s1 << 9;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result;
  }

  /** Even in [0, 1). */
  unit(): number {
    return this.uint32() / 2 ** 32;
  }

  /** Even in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.unit();
  }

  /** An integer from 0 to count - 1. */
  below(count: number): number {
    return Math.floor(this.unit() * count);
  }

  /**
   * About normal, mean 0 and deviation 1, within ±3.5: the sum of four even numbers. Bounded on purpose, so that
   * no run of luck takes a simulated GPU out of its physical range; and free of logarithms, for speed.
   */
  normal(): number {
    return (this.unit() + this.unit() + this.unit() + this.unit() - 2) * Math.sqrt(3);
  }

  /** Waiting time of a Poisson process with this mean. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.unit());
  }

  /** Hexadecimal digits, lower case. */
  hex(digits: number): string {
    let text = '';
    while (text.length < digits) text += this.uint32().toString(16).padStart(8, '0');
    return text.slice(0, digits);
  }
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** The output step of splitmix32 (the finalizer of MurmurHash3). */
function scramble(value: number): number {
  let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
