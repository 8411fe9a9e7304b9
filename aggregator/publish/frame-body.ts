import { gzipSync } from 'node:zlib';
import type { Block } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { FrameEncoder } from '#shared/wire/frame-encoder.ts';
import type { TickPlan } from './tick-plan.ts';

/** Shapes of dictionaries whose encoder is kept, the one used longest ago goes: a fleet has a few dozen. */
const MAX_ENCODERS = 256;

/**
 * Makes self-contained frames. A keyframe depends on nothing that came before it, so dictionaries of one shape (the
 * same kinds and decimals in the same order, as all nodes of one model have) share an encoder: a fleet of thousands
 * has a few, not one for each stream.
 */
export class FrameBodies {
  readonly #byDictionary = new WeakMap<Dictionary, string>();
  readonly #encoders = new Map<string, FrameEncoder>();
  #values = new Float64Array(0);
  #states = new Uint8Array(0);

  /** The frame, the caller's to keep. Throws `invalid_input` for a tick that does not fit its dictionary. */
  encode({ dictionary, slots }: TickPlan, { timestampMs, values, states }: Block): Uint8Array {
    const encoder = this.#encoderOf(dictionary);
    if (slots === undefined) return encoder.encode({ timestampMs, values, states }, true).slice();
    if (this.#values.length !== slots.length) {
      this.#values = new Float64Array(slots.length);
      this.#states = new Uint8Array(slots.length);
    }
    for (let i = 0; i < slots.length; i++) {
      this.#values[i] = values[slots[i]!]!;
      this.#states[i] = states[slots[i]!]!;
    }
    return encoder.encode({ timestampMs, values: this.#values, states: this.#states }, true).slice();
  }

  #encoderOf(dictionary: Dictionary): FrameEncoder {
    let shape = this.#byDictionary.get(dictionary);
    if (shape === undefined) {
      shape = dictionary.series.map(({ kind, decimals }) => `${kind[0]}${decimals}`).join('');
      this.#byDictionary.set(dictionary, shape);
    }
    const encoder = this.#encoders.get(shape) ?? new FrameEncoder(dictionary);
    this.#encoders.delete(shape);
    this.#encoders.set(shape, encoder);
    if (this.#encoders.size > MAX_ENCODERS) {
      const oldest = this.#encoders.keys().next();
      if (!oldest.done) this.#encoders.delete(oldest.value);
    }
    return encoder;
  }
}

/** The dictionary as gzipped JSON; documented field by field in README.md. */
export function dictionaryBody({ dictionary, hash }: TickPlan): Uint8Array {
  const { group, intervalMs, series } = dictionary;
  const json = {
    hash,
    group,
    interval_ms: intervalMs,
    series: series.map(({ name, labels, kind, decimals, unit, help }) => ({
      name,
      labels: Object.fromEntries(labels),
      ...{ kind, decimals, unit, help },
    })),
  };
  return gzipSync(JSON.stringify(json));
}
