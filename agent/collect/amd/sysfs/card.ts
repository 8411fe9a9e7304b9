import { join } from 'node:path';
import { AMD_CYCLES, type AmdField, CYCLES } from '#shared/catalogue/amd.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { toBase } from '../amd-unit.ts';
import type { Miss } from '../gpu-table.ts';
import type { ThrottleTime } from '../throttle-time.ts';
import { AttributeFile, type Content, type Open } from './attribute-file.ts';
import type { Item, Parser } from './attribute-text.ts';
import type { FoundCard } from './find-cards.ts';
import { placeOf } from './key-place.ts';

/** What one item of a file is for. */
interface Target {
  /** Index in the fields. */
  readonly field: number;
  readonly item: string;
  readonly unit: string;
}

interface Source {
  readonly name: string;
  /** Undefined: the board has no such sensor. */
  readonly file: AttributeFile | undefined;
  readonly parser: Parser;
  readonly slow: boolean;
  readonly targets: Target[];
  /** The content of a slow one, or that the board has none of it, and when it was read. */
  kept: Content;
  keptAt: number;
}

/** Limits, sizes and what was missing are read again after this. */
const SLOW_MS = 60_000;
/** The driver asks the firmware or the registers for these: where they all fail, the GPU does not answer. */
const ASKS_DEVICE =
  /^(gpu_metrics|gpu_busy_percent|mem_busy_percent|pp_dpm_|hwmon\/.*_(input|average)$|ras\/|xgmi_error)/;
/** The first words of the PCI configuration: a device that is off the bus reads as ones. */
const CONFIG_BYTES = 4;
const RAS_TOTAL = 'ras/total';

/** One GPU's files. Its arrays are its own: a read that is late disturbs nobody. */
export class Card {
  readonly found: FoundCard;
  readonly fields: readonly AmdField[];
  readonly values: Float64Array;
  /** Of each field: Present, or why not. */
  readonly states: Uint8Array;
  /** Of each field: it is to be a series. An instance is, once it was seen. */
  readonly shown: Uint8Array;
  malformed = 0;
  /** A read is under way; one that hangs in the kernel never ends. */
  busy = false;
  /** Grows when `shown` does. */
  version = 0;
  readonly #config: AttributeFile;
  readonly #sources: Source[] = [];
  readonly #throttleTime: ThrottleTime;
  /** xgmi_error is cleared by each read. */
  #linkErrors = 0;

  constructor(found: FoundCard, fields: readonly AmdField[], open: Open, throttleTime: ThrottleTime) {
    this.found = found;
    this.fields = fields;
    this.values = new Float64Array(fields.length);
    this.states = new Uint8Array(fields.length);
    this.shown = Uint8Array.from(fields, ({ instance }) => (instance ? 0 : 1));
    this.#throttleTime = throttleTime;
    this.#config = new AttributeFile(join(found.path, 'config'), CONFIG_BYTES, open);
    for (const [field, { keys }] of fields.entries())
      for (const { key, unit } of keys.sysfs) this.#add(field, key, unit, open);
  }

  #add(field: number, key: string, unit: string, open: Open): void {
    if (key.startsWith(RAS_TOTAL)) return;
    const { file, item, parser, maxBytes, slow } = placeOf(key, this.found.sensors);
    const name = file ?? `no sensor ${key}`;
    // A file that is slow for one item and not for another is two.
    let source = this.#sources.find((one) => one.name === name && one.slow === slow);
    if (!source) {
      const attribute =
        file === undefined ? undefined : new AttributeFile(join(this.found.path, file), maxBytes, open);
      source = {
        name,
        file: attribute,
        parser,
        slow,
        targets: [],
        kept: SlotState.Absent,
        keptAt: -Infinity,
      };
      this.#sources.push(source);
    }
    source.targets.push({ field, item, unit });
  }

  /**
   * Reads everything, one file after the other. False where the GPU is lost: off the bus, or every answer that
   * needs the device is ENODEV or EIO. `nowMs` is monotonic.
   */
  async read(nowMs: () => number): Promise<boolean> {
    this.busy = true;
    try {
      this.states.fill(SlotState.NotSupported);
      this.malformed = 0;
      const config = await this.#config.read();
      if (typeof config !== 'number' && config.length >= 2 && config.readUInt16LE(0) === 0xffff) return false;
      let answers = 0;
      let dead = config === SlotState.GpuLost ? 1 : 0;
      for (const source of this.#sources) {
        // Another file has said it all.
        if (source.targets.every(({ field }) => this.states[field] === SlotState.Present)) continue;
        const content = await this.#content(source, nowMs());
        if (content === SlotState.GpuLost) dead++;
        else if (typeof content !== 'number' && !source.slow && ASKS_DEVICE.test(source.name)) answers++;
        this.#take(source, content, nowMs());
      }
      this.#sumRas();
      if (dead > 0 && answers === 0) return false;
      this.#show();
      return true;
    } finally {
      this.busy = false;
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#config.close(), ...this.#sources.map(({ file }) => file?.close())]);
  }

  async #content(source: Source, nowMs: number): Promise<Content> {
    if (!source.file) return SlotState.NotSupported;
    if (nowMs - source.keptAt < SLOW_MS) return source.kept;
    const content = await source.file.read();
    // What the board does not have is not asked for at each read; what it refused for now is.
    if (content !== SlotState.NotSupported && (!source.slow || typeof content === 'number')) return content;
    source.kept = typeof content === 'number' ? content : Buffer.from(content);
    source.keptAt = nowMs;
    // Until then it needs no open file.
    await source.file.close();
    return source.kept;
  }

  #take({ name, parser, targets }: Source, content: Content, nowMs: number): void {
    if (typeof content === 'number') {
      // One file that fails while others answer is not a lost GPU.
      const state = content === SlotState.GpuLost ? SlotState.Absent : content;
      for (const { field } of targets) this.#miss(field, state);
      return;
    }
    const itemOf = parser(content);
    for (const { field, item, unit } of targets) {
      const read = itemOf(item);
      if (typeof read !== 'object') this.#malformed(field);
      else if ('miss' in read) this.#miss(field, read.miss);
      else
        this.#value(
          field,
          unit === CYCLES ? this.#held(field, read.value, itemOf, nowMs) : read.value,
          unit,
          name,
        );
    }
  }

  #value(field: number, value: number | undefined, unit: string, file: string): void {
    if (this.states[field] === SlotState.Present) return;
    const converted =
      value === undefined
        ? 'blank'
        : unit === CYCLES
          ? value
          : toBase(value, unit, this.fields[field]!.metric.unit);
    if (converted === 'malformed') {
      this.#malformed(field);
    } else if (converted === 'blank') {
      this.#miss(field, SlotState.Blank);
    } else {
      this.states[field] = SlotState.Present;
      this.values[field] = converted;
      if (file !== 'xgmi_error') return;
      this.#linkErrors += converted;
      this.values[field] = this.#linkErrors;
    }
  }

  #held(field: number, residency: number, itemOf: (item: string) => Item, nowMs: number): number | undefined {
    const cycles = itemOf(AMD_CYCLES.sysfs.split(':')[1]!);
    if (typeof cycles !== 'object' || 'miss' in cycles) return undefined;
    const key = `${this.found.pci} ${this.fields[field]!.labels.reason}`;
    return this.#throttleTime.observe(key, cycles.value, residency, nowMs);
  }

  /** That it is not supported in one place is the weakest thing to say. */
  #miss(field: number, state: Miss): void {
    if (this.states[field] === SlotState.NotSupported) this.states[field] = state;
  }

  #malformed(field: number): void {
    this.malformed++;
    this.#miss(field, SlotState.Absent);
  }

  /** The driver has no total: the sum over all blocks that count, or nothing where one of them did not answer. */
  #sumRas(): void {
    for (const [total, { keys, labels }] of this.fields.entries()) {
      if (!keys.sysfs.some(({ key }) => key.startsWith(RAS_TOTAL))) continue;
      for (const [field, one] of this.fields.entries()) {
        if (one.metric.name !== 'gpu_ecc_errors_by_location_total' || one.labels.type !== labels.type)
          continue;
        const state = this.states[field]!;
        if (state === SlotState.NotSupported) continue;
        const before = this.states[total]!;
        if (state !== SlotState.Present) this.states[total] = state;
        else if (before === SlotState.Present) this.values[total]! += this.values[field]!;
        else if (before === SlotState.NotSupported) {
          this.states[total] = state;
          this.values[total] = this.values[field]!;
        }
        if (this.states[total] !== SlotState.Present) break;
      }
    }
  }

  #show(): void {
    for (let field = 0; field < this.shown.length; field++) {
      if (this.shown[field] === 1 || this.states[field] === SlotState.NotSupported) continue;
      this.shown[field] = 1;
      this.version++;
    }
  }
}
