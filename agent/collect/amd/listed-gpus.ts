import { type AmdField, type AmdKey, type AmdSource, amdFields, CYCLES } from '#shared/catalogue/amd.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { Converted } from './amd-unit.ts';
import type { GpuIdentity } from './gpu-identity.ts';
import type { GpuTable, PlannedGpu } from './gpu-table.ts';
import { ThrottleTime } from './throttle-time.ts';

/** A GPU that a source lists, and what the source says of it. */
export interface ListedGpu {
  readonly identity: GpuIdentity;
  /** Labels of gpu_info. */
  readonly facts: Readonly<Record<string, string | undefined>>;
  /** In the catalogue's unit `base`; cycles as they are. Undefined: the source does not speak of it. */
  find(key: AmdKey, base: string): Converted | undefined;
}

interface Known {
  identity: GpuIdentity;
  facts: ListedGpu['facts'];
  /** Every field that was ever seen: one that goes keeps its series, absent. */
  readonly fields: Set<AmdField>;
  lost: boolean;
}

/** More GPUs or partitions than a node has. */
const MAX_GPUS = 512;

/** The GPUs of a source that lists all of them at each read: what it says, and which one is no longer listed. */
export class ListedGpus {
  readonly #source: AmdSource;
  readonly #name: string;
  readonly #cycles: AmdKey;
  readonly #fields: readonly AmdField[];
  readonly #known = new Map<string, Known>();
  readonly #throttleTime = new ThrottleTime();

  /** `cycles`: the source's key of the accumulation counter. */
  constructor(source: AmdSource, name: string, cycles: string) {
    this.#source = source;
    this.#name = name;
    this.#cycles = { key: cycles, unit: CYCLES };
    this.#fields = amdFields(source);
  }

  /** How many are there. */
  get present(): number {
    return [...this.#known.values()].filter(({ lost }) => !lost).length;
  }

  /** What to plan. To be called once for each read that succeeded, before `fill`. */
  observe(
    listed: readonly ListedGpu[],
    timestampMs: number,
  ): { gpus: PlannedGpu[]; events: FleetEvent[]; refused: number } {
    const events: FleetEvent[] = [];
    const seen = new Set<string>();
    let refused = 0;
    for (const gpu of listed) {
      const key = keyOf(gpu.identity);
      if (seen.has(key) || (!this.#known.has(key) && this.#known.size >= MAX_GPUS)) {
        refused++;
        continue;
      }
      seen.add(key);
      this.#meet(key, gpu, timestampMs, events);
    }
    for (const [key, known] of this.#known) {
      if (seen.has(key) || known.lost) continue;
      known.lost = true;
      events.push(this.#event('gpu_lost', known.identity, timestampMs));
    }
    const gpus = [...this.#known.values()].map(({ identity, facts, fields }) => ({
      identity,
      facts,
      fields: [...fields],
      presence: true,
    }));
    return { gpus, events, refused };
  }

  /** Puts what they say into the table, which was planned with what `observe` gave. */
  fill(table: GpuTable, listed: readonly ListedGpu[], monotonicMs: number): void {
    const byKey = new Map([...listed].reverse().map((gpu) => [keyOf(gpu.identity), gpu]));
    for (const [g, [key, known]] of [...this.#known].entries()) {
      const gpu = byKey.get(key);
      if (!gpu) {
        table.allMiss(g, SlotState.GpuLost);
        continue;
      }
      table.here(g);
      for (const [i, field] of [...known.fields].entries()) this.#put(table, g, i, field, gpu, monotonicMs);
    }
  }

  #put(table: GpuTable, g: number, i: number, field: AmdField, gpu: ListedGpu, monotonicMs: number): void {
    for (const key of field.keys[this.#source]) {
      const found = this.#found(field, key, gpu, monotonicMs);
      if (found === undefined) continue;
      if (typeof found === 'number') {
        table.offer(g, i, found);
        return;
      }
      if (found === 'malformed') table.reject('malformed');
      table.miss(g, i, found === 'blank' ? SlotState.Blank : SlotState.Absent);
    }
  }

  #found(field: AmdField, key: AmdKey, gpu: ListedGpu, monotonicMs: number): Converted | undefined {
    const found = gpu.find(key, field.metric.unit);
    if (key.unit !== CYCLES || typeof found !== 'number') return found;
    const cycles = gpu.find(this.#cycles, '');
    if (typeof cycles !== 'number') return 'blank';
    const track = `${keyOf(gpu.identity)} ${field.labels.reason}`;
    return this.#throttleTime.observe(track, cycles, found, monotonicMs) ?? 'blank';
  }

  #meet(key: string, gpu: ListedGpu, timestampMs: number, events: FleetEvent[]): void {
    const known = this.#known.get(key) ?? { ...gpu, fields: new Set<AmdField>(), lost: false };
    if (known.lost) events.push(this.#event('gpu_back', gpu.identity, timestampMs));
    known.lost = false;
    known.identity = gpu.identity;
    known.facts = gpu.facts;
    for (const field of this.#fields) {
      const { keys, metric } = field;
      if (
        !known.fields.has(field) &&
        keys[this.#source].some((one) => gpu.find(one, metric.unit) !== undefined)
      )
        known.fields.add(field);
    }
    this.#known.set(key, known);
  }

  #event(type: 'gpu_lost' | 'gpu_back', { gpu, uuid }: GpuIdentity, timestampMs: number): FleetEvent {
    const text =
      type === 'gpu_lost'
        ? `GPU ${gpu} is no longer listed by ${this.#name}, which still answers`
        : `GPU ${gpu} is listed by ${this.#name} again`;
    return { type, timestampMs, gpu, gpuUuid: uuid, text, attributes: { source: this.#name } };
  }
}

function keyOf({ gpu, uuid, mig_id = '' }: GpuIdentity): string {
  return `${uuid || gpu} ${mig_id}`;
}
