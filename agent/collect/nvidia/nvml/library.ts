import { SlotState } from '#shared/model/slot-state.ts';
import type { LibraryAnswer, OpenLibrary, ProbedLibrary } from '../../probe/probed-library.ts';
import { NvmlBinding } from './binding.ts';
import type { DescribedGpu, NvmlDescription } from './description.ts';
import { type GpuLayout, layOut } from './gpu-layout.ts';
import { type GpuReader, ReopenNeeded } from './gpu-reader.ts';
import { Nvml, nvmlError, stateOf } from './return-code.ts';

/** What the collector gives the child. */
export interface NvmlLibraryOptions {
  readonly library: string;
  readonly keepOpen: boolean;
  /** How often a lost GPU is looked for, and unsupported fields are asked for again. */
  readonly recheckMs: number;
}

interface OpenGpu extends GpuLayout {
  handle: number;
  lost: boolean;
  readonly described: DescribedGpu;
}

/** More GPUs than a node has. */
const MAX_GPUS = 64;

/** Runs in the probe's child alone: see LibraryProbe. */
export const open: OpenLibrary = (options) => new NvmlLibrary(options as NvmlLibraryOptions);

class NvmlLibrary implements ProbedLibrary {
  readonly #options: NvmlLibraryOptions;
  #binding: NvmlBinding | undefined;
  #isOpen = false;
  #gpus: readonly OpenGpu[] = [];
  #faults: NvmlDescription['faults'] = [];
  #driver = '';
  #count = 0;
  #checkedAt = 0;
  #described = '';
  /** The library was opened since the last description. */
  #isNew = false;
  #values = new Float64Array(0);
  #states = new Uint8Array(0);

  constructor(options: NvmlLibraryOptions) {
    this.#options = options;
  }

  read(group: number): LibraryAnswer {
    try {
      this.#binding ??= new NvmlBinding(this.#options.library);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return { failure: `Cannot load ${this.#options.library}: ${why}`, state: SlotState.Absent };
    }
    try {
      return this.#readOnceMore(this.#binding, group);
    } catch (error) {
      if (!(error instanceof ReopenNeeded)) throw error;
      this.#close(this.#binding);
      // The library in memory is that of the former driver: only another process gets the new one.
      const end = error.code === Nvml.LIB_RM_VERSION_MISMATCH;
      return failure(error.code, end);
    } finally {
      if (!this.#options.keepOpen) this.#close(this.#binding);
    }
  }

  /** A driver that was reloaded since the last read is opened anew within this one. */
  #readOnceMore(binding: NvmlBinding, group: number): LibraryAnswer {
    const wasOpen = this.#isOpen;
    try {
      return this.#read(binding, group);
    } catch (error) {
      if (!wasOpen || !(error instanceof ReopenNeeded)) throw error;
      this.#close(binding);
      this.#forget();
      return this.#read(binding, group);
    }
  }

  #read(binding: NvmlBinding, group: number): LibraryAnswer {
    const isDue = performance.now() - this.#checkedAt >= this.#options.recheckMs;
    if (isDue) this.#checkedAt = performance.now();
    if (this.#isOpen) this.#look(binding, isDue);
    if (!this.#isOpen) this.#open(binding);
    if (isDue) for (const { readers } of this.#gpus) for (const reader of readers) reader.recheck();
    let size = 0;
    for (const gpu of this.#gpus) {
      const reader = gpu.readers[group]!;
      // One that is lost is not asked again before the library is opened anew: it would say the same, and the kernel
      // log a line for each question.
      gpu.lost = !(gpu.lost ? reader.lose() : reader.read(gpu.handle));
      size += reader.values.length;
    }
    return { ...this.#describe(), ...this.#gather(group, size) };
  }

  /** Closes what has to be opened anew: a count that changed; at times, a GPU that is lost and may be back. */
  #look(binding: NvmlBinding, isDue: boolean): void {
    const count = binding.count();
    if (count < 0) throw new ReopenNeeded(-count);
    const anyLost = this.#faults.length > 0 || this.#gpus.some(({ lost }) => lost);
    if (count !== this.#count || (isDue && anyLost)) this.#close(binding);
  }

  #open(binding: NvmlBinding): void {
    const code = binding.initialise();
    if (code !== Nvml.SUCCESS) throw new ReopenNeeded(code);
    this.#isOpen = true;
    const count = binding.count();
    if (count < 0) throw new ReopenNeeded(-count);
    const driver = binding.driverVersion();
    if (driver !== this.#driver) this.#forget();
    this.#driver = driver;
    this.#count = count;
    const known = new Map(this.#gpus.map((gpu) => [gpu.described.uuid, gpu]));
    const gpus: OpenGpu[] = [];
    const faults: NvmlDescription['faults'][number][] = [];
    for (let index = 0; index < Math.min(count, MAX_GPUS); index++) {
      const handle = binding.handle(index);
      const gpu = handle > 0 ? openGpu(binding, handle, index, known) : undefined;
      if (gpu) gpus.push(gpu);
      else faults.push({ index, text: nvmlError(handle > 0 ? Nvml.GPU_IS_LOST : -handle) });
    }
    this.#gpus = gpus;
    this.#faults = faults;
    this.#isNew = true;
  }

  #close(binding: NvmlBinding): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    binding.shutDown();
  }

  /** Another driver may support other fields. */
  #forget(): void {
    this.#gpus = [];
  }

  #describe(): { description?: NvmlDescription } {
    if (!this.#isNew) return {};
    this.#isNew = false;
    const description = {
      driver: this.#driver,
      gpus: this.#gpus.map(({ described }) => described),
      faults: this.#faults,
    };
    const text = JSON.stringify(description);
    if (text === this.#described) return {};
    this.#described = text;
    return { description };
  }

  #gather(group: number, size: number): { values: Float64Array; states: Uint8Array } {
    if (this.#values.length !== size) {
      this.#values = new Float64Array(size);
      this.#states = new Uint8Array(size);
    }
    let at = 0;
    for (const { readers } of this.#gpus) {
      const { values, states } = readers[group] as GpuReader;
      this.#values.set(values, at);
      this.#states.set(states, at);
      at += values.length;
    }
    return { values: this.#values, states: this.#states };
  }
}

function failure(code: number, end: boolean): LibraryAnswer {
  const state = stateOf(code);
  const usable = state === SlotState.Present || state === SlotState.NotSupported ? SlotState.Absent : state;
  return { failure: `Cannot read NVML: ${nvmlError(code)}`, state: usable, end };
}

/** Undefined where it does not answer. */
function openGpu(
  binding: NvmlBinding,
  handle: number,
  index: number,
  known: ReadonlyMap<string, OpenGpu>,
): OpenGpu | undefined {
  const uuid = binding.text('nvmlDeviceGetUUID', handle);
  const before = known.get(uuid);
  if (before && before.described.index === index && !before.lost) {
    before.handle = handle;
    return before;
  }
  const layout = layOut(binding, handle);
  if (!layout || uuid === '') return undefined;
  const described = {
    index,
    uuid,
    serial: binding.text('nvmlDeviceGetSerial', handle),
    pci: binding.pci(handle),
    model: binding.text('nvmlDeviceGetName', handle),
    vbios: binding.text('nvmlDeviceGetVbiosVersion', handle),
    minor: binding.minor(handle),
    slots: layout.slots,
  };
  return { ...layout, handle, lost: false, described };
}
