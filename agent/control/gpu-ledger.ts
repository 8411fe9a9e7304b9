import { isCriticalXid } from '#shared/catalogue/xid.ts';
import type { Tick } from '#shared/model/block.ts';
import { type Dictionary, labelOf, type Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { ExpectedGpus } from './agent-status.ts';
import type { GpuFacts, GpuIncident } from './gate-facts.ts';

/** Small facts that outlive the agent: see RecordBuffer.fact. */
export interface KeptFacts {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
}

export interface GpuLedgerOptions {
  readonly facts: KeptFacts;
  /** Of /proc/sys/kernel/random/boot_id: a reboot clears Xids. Empty where it is not known: then none is cleared. */
  readonly bootId: string;
  /** Unix ms: what a source tells of before that is another boot's. 0 where it is not known. */
  readonly bootedMs: number;
  /** Setting expected_gpus. */
  readonly expected: number | undefined;
}

/** More than any node has; of an event storm with made-up names the first are kept. */
const MAX_GPUS = 256;
/** Of each GPU: what is wrong is clear from the first few. */
const MAX_INCIDENTS = 8;
const KEPT = 'control/incidents';
const LEARNT = 'control/gpus_seen';
/** Facts are small: a kept text stays below this. */
const MAX_KEPT_CHARACTERS = 32_768;

interface Kept {
  bootId: string;
  /** By GPU: its UUID where the event had one, else its index, else its PCI address, else `*`. */
  readonly fatal: Record<string, GpuIncident[]>;
  readonly diagnostics: Record<string, GpuIncident>;
  /** GPUs that an event reported lost and none back, with the time. */
  readonly lost: Record<string, number>;
}

/**
 * What the job gate must remember: fatal Xids since boot and failed diagnostics until a passed diagnostic clears
 * them, GPUs that were reported lost, and how many GPUs this node ever had. Kept over restarts of the agent.
 */
export class GpuLedger {
  readonly #options: GpuLedgerOptions;
  readonly #kept: Kept;
  #expected: number | undefined;
  #seen: number;
  #counted: readonly Dictionary[] = [];
  /** Of the newest ticks: UUID by index, and index by UUID. */
  readonly #otherName = new Map<string, string>();
  /** Unix ms of the newest value of each GPU: a read that failed does not make it unknown at once. */
  readonly #lastRead = new Map<string, number>();

  constructor(options: GpuLedgerOptions) {
    this.#options = options;
    this.#expected = options.expected;
    this.#kept = keptOf(options.facts.get(KEPT));
    this.#seen = wholeNumber(options.facts.get(LEARNT)) ?? 0;
    // Unknown boots may be the same one: better an Xid too long than one too short.
    if (options.bootId !== '' && this.#kept.bootId !== options.bootId) {
      for (const key of Object.keys(this.#kept.fatal)) delete this.#kept.fatal[key];
      for (const key of Object.keys(this.#kept.lost)) delete this.#kept.lost[key];
      this.#kept.bootId = options.bootId;
      this.#save();
    }
  }

  /** Call it for every event that the agent records. */
  observe(event: FleetEvent): void {
    const key = keyOf(event);
    const { fatal, lost } = this.#kept;
    if (event.type === 'gpu_lost') put(lost, key, event.timestampMs);
    else if (event.type === 'gpu_back') delete lost[key];
    else if (event.type === 'diagnostic') this.#diagnosed(key, event);
    else if (isFatal(event) && event.timestampMs >= this.#options.bootedMs) {
      const known = fatal[key] ?? [];
      if (known.length >= MAX_INCIDENTS) return;
      put(fatal, key, [...known, incidentOf(event)]);
    } else return;
    this.#save();
  }

  #diagnosed(key: string, event: FleetEvent): void {
    const { fatal, diagnostics } = this.#kept;
    if (event.attributes.result !== 'pass') {
      put(diagnostics, key, incidentOf(event));
      return;
    }
    // A diagnostic may name a GPU by index, and the Xid that it clears by UUID.
    const { gpu, gpuUuid } = this.identify(event);
    const keys = key === ALL ? [...Object.keys(fatal), ...Object.keys(diagnostics)] : [key, gpu, gpuUuid];
    for (const one of keys) {
      delete fatal[one];
      delete diagnostics[one];
    }
  }

  /** Index and UUID of a GPU of which one is known; '' for what nobody knows. */
  identify({ gpu, gpuUuid }: Pick<FleetEvent, 'gpu' | 'gpuUuid'>): { gpu: string; gpuUuid: string } {
    return {
      gpu: gpu || (this.#otherName.get(gpuUuid) ?? ''),
      gpuUuid: gpuUuid || (this.#otherName.get(gpu) ?? ''),
    };
  }

  /** Call it with the newest tick of each group every few seconds: learns how many GPUs the node has, and their names. */
  learn(ticks: Iterable<Tick>): void {
    const dictionaries = [...ticks].map(({ dictionary }) => dictionary);
    const { length } = dictionaries;
    if (length === this.#counted.length && dictionaries.every((one, i) => one === this.#counted[i])) return;
    this.#counted = dictionaries;
    const found = new Map(dictionaries.flatMap((one) => [...layoutOf(one).gpus]));
    this.#otherName.clear();
    for (const { identity } of found.values()) {
      const { gpu, uuid } = identity;
      if (gpu !== '' && uuid !== '') this.#otherName.set(gpu, uuid).set(uuid, gpu);
    }
    const gpus = found.size;
    if (gpus <= this.#seen) return;
    this.#seen = gpus;
    this.#options.facts.set(LEARNT, String(gpus));
  }

  /** Another word of the configuration. */
  expect(count: number | undefined): void {
    this.#expected = count;
  }

  get expected(): ExpectedGpus {
    if (this.#expected !== undefined) return { count: this.#expected, from: 'config' };
    return this.#seen > 0 ? { count: this.#seen, from: 'learnt' } : { count: null, from: 'unknown' };
  }

  /** Every GPU that a source gives series of, and those that only an event told of. */
  gpus(ticks: Iterable<Tick>): GpuFacts[] {
    const found = new Map<string, Draft>();
    for (const tick of ticks) {
      for (const [key, slots] of layoutOf(tick.dictionary).gpus) {
        const draft = found.get(key) ?? { ...EMPTY, ...slots.identity };
        found.set(key, draft);
        read(tick, slots, draft);
      }
    }
    for (const [key, draft] of found) this.#remember(key, draft);
    const facts = [...found.values()].map((draft) => this.#withEvents(draft));
    const named = new Set(facts.flatMap(({ gpu, uuid }) => [gpu, uuid]));
    const { fatal, lost, diagnostics } = this.#kept;
    const unknown = [fatal, lost, diagnostics].flatMap(Object.keys).filter((key) => !named.has(key));
    for (const key of new Set(unknown)) {
      const identity = key.includes('-') ? { uuid: key } : { gpu: key };
      facts.push(this.#withEvents({ ...EMPTY, ...identity }));
    }
    return facts.sort((a, b) => a.gpu.localeCompare(b.gpu, 'en', { numeric: true }));
  }

  #remember(key: string, draft: Draft): void {
    const known = this.#lastRead.get(key) ?? null;
    if (draft.last_read_ms === null) draft.last_read_ms = known;
    else if (known !== null || this.#lastRead.size < MAX_GPUS) this.#lastRead.set(key, draft.last_read_ms);
  }

  #withEvents(draft: Draft): GpuFacts {
    const names = [draft.uuid, draft.gpu].filter((name) => name !== '');
    const { fatal, lost, diagnostics } = this.#kept;
    const lostAt = Math.max(...names.map((name) => lost[name] ?? 0));
    const failed = names.map((name) => diagnostics[name]).find((one) => one !== undefined);
    const incidents = names.flatMap((name) => fatal[name] ?? []);
    return {
      ...draft,
      // A source that reads it again knows better than an event before that.
      lost: draft.lost || (lostAt > 0 && (draft.last_read_ms ?? 0) <= lostAt),
      fatal: incidents.sort((a, b) => a.at_ms - b.at_ms),
      failed_diagnostic: failed ?? null,
    };
  }

  #save(): void {
    const text = JSON.stringify(this.#kept);
    if (text.length <= MAX_KEPT_CHARACTERS) this.#options.facts.set(KEPT, text);
  }
}

type Draft = { -readonly [K in Exclude<keyof GpuFacts, 'fatal' | 'failed_diagnostic'>]: GpuFacts[K] };

const EMPTY: Draft = {
  gpu: '',
  uuid: '',
  model: '',
  lost: false,
  last_read_ms: null,
  interval_ms: null,
  row_remap_failed: null,
  row_remap_pending: null,
  unrepairable: null,
  uncorrected_ecc_errors: null,
  recovery_action: null,
};

type What =
  | 'up'
  | 'remap_failed'
  | 'remap_pending'
  | 'unrepairable'
  | 'uncorrected'
  | 'recovery_action'
  | 'other';

interface GpuSlots {
  readonly identity: { readonly gpu: string; readonly uuid: string; readonly model: string };
  readonly slots: { readonly slot: number; readonly what: What }[];
}

interface Layout {
  /** By UUID, or index where a source gives no UUID. */
  readonly gpus: ReadonlyMap<string, GpuSlots>;
}

/** Who holds a GPU, and what the kernel said of it: they go on when the GPU does not answer, and name some that are not there. */
const HEARSAY = /^(?:gpu_job_info|gpu_xid_errors_total|gpu_ras_events_total)$/;
const layouts = new WeakMap<Dictionary, Layout>();

function layoutOf(dictionary: Dictionary): Layout {
  let layout = layouts.get(dictionary);
  if (layout) return layout;
  const gpus = new Map<string, GpuSlots>();
  dictionary.series.forEach((series, slot) => {
    if (HEARSAY.test(series.name)) return;
    const gpu = labelOf(series.labels, 'gpu') ?? '';
    const uuid = labelOf(series.labels, 'uuid') ?? '';
    const key = uuid || gpu;
    // A MIG instance is a part of the GPU whose series stand beside it.
    if (key === '' || uuid.startsWith('MIG-')) return;
    const model = labelOf(series.labels, 'model') ?? '';
    const slots = gpus.get(key) ?? { identity: { gpu, uuid, model }, slots: [] };
    gpus.set(key, slots);
    slots.slots.push({ slot, what: whatOf(series) });
  });
  layout = { gpus };
  layouts.set(dictionary, layout);
  return layout;
}

function whatOf({ name, labels }: Series): What {
  switch (name) {
    case 'gpu_up':
      return 'up';
    case 'gpu_row_remap_failed':
      return 'remap_failed';
    case 'gpu_row_remap_pending':
    case 'gpu_retired_pages_pending':
      return 'remap_pending';
    case 'gpu_memory_unrepairable':
    case 'gpu_sram_ecc_threshold_exceeded':
      return 'unrepairable';
    case 'gpu_recovery_action':
      return 'recovery_action';
    case 'gpu_ecc_errors_total':
      return labelOf(labels, 'scope') === 'volatile' && labelOf(labels, 'type') === 'uncorrected'
        ? 'uncorrected'
        : 'other';
    default:
      return 'other';
  }
}

/** Of several sources, the worse word counts. */
function read({ values, states, timestampMs, dictionary }: Tick, { slots }: GpuSlots, draft: Draft): void {
  draft.interval_ms ??= dictionary.intervalMs;
  for (const { slot, what } of slots) {
    if (states[slot] === SlotState.GpuLost) draft.lost = true;
    if (states[slot] !== SlotState.Present) continue;
    const value = values[slot]!;
    if (what === 'up') {
      if (value === 0) draft.lost = true;
      continue;
    }
    if (timestampMs > (draft.last_read_ms ?? 0)) {
      draft.last_read_ms = timestampMs;
      draft.interval_ms = dictionary.intervalMs;
    }
    if (what === 'remap_failed') draft.row_remap_failed = draft.row_remap_failed === true || value > 0;
    else if (what === 'remap_pending')
      draft.row_remap_pending = draft.row_remap_pending === true || value > 0;
    else if (what === 'unrepairable') draft.unrepairable = draft.unrepairable === true || value > 0;
    else if (what === 'uncorrected')
      draft.uncorrected_ecc_errors = Math.max(draft.uncorrected_ecc_errors ?? 0, value);
    else if (what === 'recovery_action') draft.recovery_action = Math.max(draft.recovery_action ?? 0, value);
  }
}

/** An event without a GPU: a diagnostic of the whole node, a kernel line that names none. */
const ALL = '*';

/** The kernel names a GPU by its PCI address where nobody could resolve it. */
function keyOf({ gpuUuid, gpu, attributes }: FleetEvent): string {
  return gpuUuid || gpu || attributes.pci || ALL;
}

/** Jobs on the GPU are lost or wrong until somebody looked. A follower of another Xid is not an incident of its own. */
function isFatal({ type, attributes }: FleetEvent): boolean {
  if (attributes.follows !== undefined && attributes.follows !== '') return false;
  if (type === 'xid')
    return (
      attributes.severity === 'critical' ||
      (attributes.severity === undefined && isCriticalXid(Number(attributes.code)))
    );
  return type === 'ras' && attributes.severity === 'critical';
}

function incidentOf({ type, attributes, text, timestampMs }: FleetEvent): GpuIncident {
  const what = type === 'xid' ? `Xid ${attributes.code}` : type === 'ras' ? 'RAS error' : 'diagnostic';
  const name =
    type === 'diagnostic'
      ? [attributes.source, attributes.test].filter(Boolean).join(' ')
      : (attributes.name ?? text);
  return { what, name: name.slice(0, 120), at_ms: timestampMs };
}

/** Never more than MAX_GPUS names. */
function put<T>(record: Record<string, T>, key: string, value: T): void {
  if (Object.hasOwn(record, key) || Object.keys(record).length < MAX_GPUS) record[key] = value;
}

function keptOf(text: string | undefined): Kept {
  const none: Kept = { bootId: '', fatal: {}, diagnostics: {}, lost: {} };
  try {
    const kept: unknown = JSON.parse(text ?? 'null');
    return typeof kept === 'object' && kept !== null ? { ...none, ...kept } : none;
  } catch {
    return none;
  }
}

function wholeNumber(text: string | undefined): number | undefined {
  const value = Number(text);
  return text !== undefined && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
