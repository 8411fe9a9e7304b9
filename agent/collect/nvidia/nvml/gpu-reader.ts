import { SlotState } from '#shared/model/slot-state.ts';
import { FIELD_VALUE_BYTES, FIELDS_AT, MAX_FIELDS_A_CALL, type NvmlBinding } from './binding.ts';
import { type CallName, calls } from './calls.ts';
import { berRatio, fieldState, fieldValue } from './field-value.ts';
import type { Decode, NvmlField } from './fields.ts';
import { Nvml, needsReopening, stateOf } from './return-code.ts';

/** A slot to be read: which line of the table, and of which link (-1: none). */
export interface WantedSlot {
  readonly field: NvmlField;
  readonly link: number;
}

interface FieldItem {
  readonly slot: number;
  readonly id: number;
  readonly scope: number;
  readonly ber: boolean;
  readonly multiply: number;
  readonly divide: number;
}

interface CallItem {
  readonly run: (device: number) => number;
  readonly outs: readonly {
    readonly slot: number;
    readonly decode: Decode;
    readonly multiply: number;
    readonly divide: number;
  }[];
}

/** The library has to be opened anew before anything can be read: its nvmlReturn_t. */
export class ReopenNeeded extends Error {
  readonly code: number;

  constructor(code: number) {
    super(`NVML ${code}`);
    this.code = code;
  }
}

/**
 * Reads one group of one GPU into arrays of its own: fields in one call, then the functions. What the GPU does not
 * support is asked once and then left out until `recheck`, for each question costs the driver the same as an answer.
 */
export class GpuReader {
  readonly values: Float64Array;
  readonly states: Uint8Array;
  readonly #binding: NvmlBinding;
  readonly #allFields: readonly FieldItem[];
  readonly #allCalls: readonly CallItem[];
  #fields: readonly FieldItem[];
  #calls: readonly CallItem[];
  #checking = true;
  /** The slot of gpu_up. */
  #up = -1;

  constructor(binding: NvmlBinding, wanted: readonly WantedSlot[]) {
    this.#binding = binding;
    this.values = new Float64Array(wanted.length);
    this.states = new Uint8Array(wanted.length).fill(SlotState.Absent);
    this.#allFields = fieldItems(wanted);
    this.#allCalls = callItems(wanted, binding);
    this.#fields = this.#allFields;
    this.#calls = this.#allCalls;
    for (const [slot, { field }] of wanted.entries()) {
      if ('up' in field.source) this.#up = slot;
    }
  }

  /** Asks again for what was not supported. */
  recheck(): void {
    this.#checking = true;
    this.#fields = this.#allFields;
    this.#calls = this.#allCalls;
  }

  /** Whether the GPU answers. Throws ReopenNeeded. */
  read(device: number): boolean {
    const code = this.#readFields(device) || this.#readCalls(device);
    if (code === Nvml.GPU_IS_LOST || code === Nvml.GPU_NOT_FOUND) return this.lose();
    if (this.#checking) this.#leaveOut();
    this.#setUp(1);
    return true;
  }

  /** The GPU does not answer; the next read asks for everything again. Always false. */
  lose(): false {
    this.states.fill(SlotState.GpuLost);
    this.#setUp(0);
    this.recheck();
    return false;
  }

  #setUp(up: number): void {
    if (this.#up < 0) return;
    this.values[this.#up] = up;
    this.states[this.#up] = SlotState.Present;
  }

  /** The code that ends the read, or 0. */
  #readFields(device: number): number {
    for (let from = 0; from < this.#fields.length; from += MAX_FIELDS_A_CALL) {
      const code = this.#readSome(device, from, Math.min(this.#fields.length, from + MAX_FIELDS_A_CALL));
      if (code !== 0) return code;
    }
    return 0;
  }

  #readSome(device: number, from: number, to: number): number {
    const { view } = this.#binding;
    for (let i = from; i < to; i++) {
      const { id, scope } = this.#fields[i]!;
      this.#binding.setField(i - from, id, scope);
    }
    const code = this.#binding.readFields(device, to - from);
    if (ends(code)) return code;
    for (let i = from; i < to; i++) {
      const { slot, ber, multiply, divide } = this.#fields[i]!;
      const at = FIELDS_AT + (i - from) * FIELD_VALUE_BYTES;
      const state = code === Nvml.SUCCESS ? fieldState(view, at) : stateOf(code);
      if (state === SlotState.GpuLost) return Nvml.GPU_IS_LOST;
      this.states[slot] = state;
      if (state !== SlotState.Present) continue;
      const given = fieldValue(view, at);
      this.values[slot] = ber ? berRatio(given) : (given * multiply) / divide;
    }
    return 0;
  }

  /** By index: an iterator makes an object for each step, in code that is too seldom run to be compiled for it. */
  #readCalls(device: number): number {
    const { view } = this.#binding;
    const calls = this.#calls;
    for (let i = 0; i < calls.length; i++) {
      const { run, outs } = calls[i]!;
      const code = run(device);
      if (ends(code)) return code;
      const state = stateOf(code);
      for (let j = 0; j < outs.length; j++) {
        const { slot, decode, multiply, divide } = outs[j]!;
        this.states[slot] = state;
        if (state === SlotState.Present) this.values[slot] = (decode(view, 0) * multiply) / divide;
      }
    }
    return 0;
  }

  #leaveOut(): void {
    this.#checking = false;
    const supported = ({ slot }: { readonly slot: number }): boolean =>
      this.states[slot] !== SlotState.NotSupported;
    this.#fields = this.#allFields.filter(supported);
    this.#calls = this.#allCalls.filter(({ outs }) => outs.some(supported));
  }
}

/** A code that is not about one value. Throws ReopenNeeded. */
function ends(code: number): boolean {
  if (needsReopening(code)) throw new ReopenNeeded(code);
  return code === Nvml.GPU_IS_LOST || code === Nvml.GPU_NOT_FOUND;
}

function fieldItems(wanted: readonly WantedSlot[]): FieldItem[] {
  return wanted.flatMap(({ field: { source, multiply, divide }, link }, slot) => {
    if (!('field' in source)) return [];
    const scope = source.perLink ? link : source.scope;
    return [{ slot, id: source.field, scope, ber: source.ber, multiply, divide }];
  });
}

function callItems(wanted: readonly WantedSlot[], binding: NvmlBinding): CallItem[] {
  const outsOf = new Map<CallName, CallItem['outs'][number][]>();
  for (const [slot, { field }] of wanted.entries()) {
    const { source, multiply, divide } = field;
    if (!('call' in source)) continue;
    const outs = outsOf.get(source.call) ?? [];
    outs.push({ slot, decode: source.decode, multiply, divide });
    outsOf.set(source.call, outs);
  }
  return [...outsOf].map(([name, outs]) => ({ run: binding.bind(calls[name]), outs }));
}
