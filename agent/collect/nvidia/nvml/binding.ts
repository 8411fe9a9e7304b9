import koffi from 'koffi';
import type { NvmlCall } from './calls.ts';
import { Nvml } from './return-code.ts';

/** Returns an nvmlReturn_t. Pointers and handles are plain numbers: addresses have 48 bits. */
type Native = (...args: number[]) => number;

/** nvmlFieldValue_t: u32 field, u32 scope, i64 timestamp, i64 latency, u32 type, u32 return, 64 bits of value. */
export const FIELD_VALUE_BYTES = 40;
/** More than that go into further calls: a bound for the memory, none of NVML's. */
export const MAX_FIELDS_A_CALL = 128;

const CALL_BYTES = 512;
/** In `view`. */
export const FIELDS_AT = CALL_BYTES;
const missing: Native = () => Nvml.FUNCTION_NOT_FOUND;

/**
 * libnvidia-ml.so.1. All that a function writes goes into one piece of memory outside of JavaScript's heap, which
 * `view` shows: no argument is converted and nothing is allocated in a call. Not for two threads.
 */
export class NvmlBinding {
  readonly #library: ReturnType<typeof koffi.load>;
  readonly #functions = new Map<string, Native>();
  readonly #scratch: number;
  /** What the last call wrote: at 0, a second pointer's at 8; fields from FIELDS_AT on. */
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  readonly #fieldValues: Native;

  /** Throws where the library cannot be loaded. */
  constructor(path: string) {
    this.#library = koffi.load(path);
    const size = FIELDS_AT + MAX_FIELDS_A_CALL * FIELD_VALUE_BYTES;
    const memory: unknown = koffi.alloc('uint8', size);
    const buffer = koffi.view(memory, size);
    this.#scratch = Number(koffi.address(memory));
    this.view = new DataView(buffer);
    this.#bytes = new Uint8Array(buffer);
    this.#fieldValues = this.#function('nvmlDeviceGetFieldValues', ['uint64', 'int', 'uint64']);
  }

  initialise(): number {
    return this.#function('nvmlInit_v2', [])();
  }

  shutDown(): number {
    return this.#function('nvmlShutdown', [])();
  }

  driverVersion(): string {
    return this.#text('nvmlSystemGetDriverVersion', []);
  }

  /** The count, or a negative nvmlReturn_t. */
  count(): number {
    const code = this.#function('nvmlDeviceGetCount_v2', ['uint64'])(this.#scratch);
    return code === Nvml.SUCCESS ? this.view.getUint32(0, true) : -code;
  }

  /** A handle, or a negative nvmlReturn_t. */
  handle(index: number): number {
    const open = this.#function('nvmlDeviceGetHandleByIndex_v2', ['uint', 'uint64']);
    const code = open(index, this.#scratch);
    return code === Nvml.SUCCESS ? Number(this.view.getBigUint64(0, true)) : -code;
  }

  /** Text that a function writes, '' where it does not. */
  text(symbol: string, device: number): string {
    return this.#text(symbol, [device]);
  }

  /** nvmlPciInfo_t: 16 bytes of the old form, five u32, then busId. */
  pci(device: number): string {
    this.#bytes.fill(0, 0, CALL_BYTES);
    const code = this.#function('nvmlDeviceGetPciInfo_v3', ['uint64', 'uint64'])(device, this.#scratch);
    return code === Nvml.SUCCESS ? this.#string(36, 32) : '';
  }

  minor(device: number): string {
    const code = this.#function('nvmlDeviceGetMinorNumber', ['uint64', 'uint64'])(device, this.#scratch);
    return code === Nvml.SUCCESS ? String(this.view.getUint32(0, true)) : '';
  }

  /** Binds a function for many calls with one set of arguments. */
  bind({ symbols, args, pointers, version }: NvmlCall): (device: number) => number {
    const types = [
      'uint64',
      ...args.map(() => 'int'),
      ...(pointers === 2 ? ['uint64', 'uint64'] : ['uint64']),
    ];
    const native = symbols.map((symbol) => this.#function(symbol, types)).find((one) => one !== missing);
    if (!native) return missing;
    const call = withArguments(native, args, pointers, this.#scratch);
    if (version === undefined) return call;
    return (device) => {
      this.view.setUint32(0, version, true);
      return call(device);
    };
  }

  /** The fields written to `view` by setField; the overall nvmlReturn_t. */
  readFields(device: number, count: number): number {
    return this.#fieldValues(device, count, this.#scratch + FIELDS_AT);
  }

  setField(index: number, field: number, scope: number): void {
    const at = FIELDS_AT + index * FIELD_VALUE_BYTES;
    this.view.setUint32(at, field, true);
    this.view.setUint32(at + 4, scope, true);
  }

  #text(symbol: string, before: readonly number[]): string {
    this.#bytes.fill(0, 0, CALL_BYTES);
    const types = [...before.map(() => 'uint64'), 'uint64', 'uint'];
    const code = this.#function(symbol, types)(...before, this.#scratch, CALL_BYTES);
    return code === Nvml.SUCCESS ? this.#string(0, CALL_BYTES) : '';
  }

  #string(at: number, most: number): string {
    const bytes = this.#bytes.subarray(at, at + most);
    const end = bytes.indexOf(0);
    return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end))
      .toString('latin1')
      .trim();
  }

  #function(symbol: string, types: readonly string[]): Native {
    let native = this.#functions.get(symbol);
    if (!native) {
      try {
        native = this.#library.func(symbol, 'int', [...types]) as Native;
      } catch {
        native = missing;
      }
      this.#functions.set(symbol, native);
    }
    return native;
  }
}

/** One closure a shape: spreading the arguments costs more than the call. */
function withArguments(
  native: Native,
  args: readonly number[],
  pointers: NvmlCall['pointers'],
  at: number,
): (device: number) => number {
  if (pointers === 2) return (device) => native(device, at, at + 8);
  const [a, b, c] = args as [number, number, number];
  switch (args.length) {
    case 0:
      return (device) => native(device, at);
    case 1:
      return (device) => native(device, a, at);
    default:
      return (device) => native(device, a, b, c, at);
  }
}
