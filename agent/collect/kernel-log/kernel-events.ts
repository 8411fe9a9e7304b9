import { worse, XID_CATALOGUE_VERSION } from '#shared/catalogue/xid.ts';
import { type FleetEvent, MAX_EVENT_ATTRIBUTES, MAX_EVENT_TEXT } from '#shared/model/event.ts';
import { normalPci } from '../gpu-identity.ts';
import type { Counters } from './counters.ts';
import type { Finding } from './finding.ts';
import { type Incident, Incidents, type Membership } from './incidents.ts';
import { LineReader } from './line-reader.ts';
import type { GpuOfProcess } from './lines/oom.ts';
import { type Storm, Storms } from './storms.ts';
import type { Verdicts } from './verdicts.ts';

export interface GpuLocation {
  /** Index; empty where it is not known. */
  readonly gpu: string;
  readonly uuid: string;
  /** Empty where it is not known. */
  readonly model: string;
}

/** The GPU at a PCI address (as normalPci gives it); undefined where there is none, or it is not known. */
export type LocateGpu = (pci: string) => GpuLocation | undefined;

/** One line of a kernel log. */
export interface KernelLine {
  readonly text: string;
  /** Unix ms. */
  readonly wallMs: number;
  /** Milliseconds since boot: never steps. */
  readonly bootMs: number;
}

export interface KernelEventsOptions {
  /** Attribute `source` of the events. */
  readonly source: string;
  /** Tells one boot's lines from another's, in ids of incidents. */
  readonly boot: string;
  readonly verdicts: Verdicts;
  readonly locate: LocateGpu;
  readonly gpuOf: GpuOfProcess;
  readonly counters: Counters;
  /** Every event is marked `late`: the log is of an earlier boot. */
  readonly late: boolean;
}

/** What must outlive a restart of the agent within one boot. */
export interface KernelEventsState {
  readonly incidents: readonly Incident[];
  readonly storms: readonly Storm<FleetEvent>[];
}

interface Draft {
  readonly finding: Finding;
  readonly membership: Membership | undefined;
  readonly line: KernelLine;
  readonly late: boolean;
}

/** A line that was read this long after it was logged is marked `late`. */
export const LATE_MS = 60_000;
/** Distinct UUIDs that lines name, kept for GPUs that nobody else knows. */
const MAX_NAMED = 64;
const NAMED = /NVRM: GPU at (?:PCI:)?([0-9a-f:.]+): (GPU-[0-9a-f-]{36})$/i;

/** Kernel lines -> events: what each tells, of which GPU, and what it belongs to; storms held back, all counted. */
export class KernelEvents {
  readonly #options: KernelEventsOptions;
  readonly #reader: LineReader;
  readonly #incidents = new Incidents();
  readonly #storms = new Storms<FleetEvent>();
  readonly #named = new Map<string, string>();
  #drafts: (Draft | FleetEvent)[] = [];
  #malformed = 0;

  constructor(options: KernelEventsOptions) {
    this.#options = options;
    this.#reader = new LineReader(options.verdicts, options.gpuOf);
  }

  get state(): KernelEventsState {
    return { incidents: this.#incidents.all, storms: this.#storms.all };
  }

  restore({ incidents, storms }: KernelEventsState): void {
    this.#incidents.restore(incidents);
    this.#storms.restore(storms);
  }

  /** `readMs`: when it was read, Unix ms. */
  line(line: KernelLine, readMs: number): void {
    const found = this.#reader.read(line.text);
    if (found === undefined) this.#learn(line.text);
    if (found === 'malformed') this.#malformed++;
    if (found === undefined || found === 'malformed') return;
    this.#count(found);
    this.#summarise(this.#storms.due(line.bootMs));
    const id = `${this.#options.boot}-${Math.round(line.bootMs * 1000)}-${found.pci ?? found.type}`;
    const membership = this.#incidents.join(found, id, line.bootMs);
    const late = this.#options.late || readMs - line.wallMs > LATE_MS;
    const draft = { finding: found, membership, line, late };
    const kind = [found.type, found.code, found.pci, found.severity, found.what].join('|');
    if (this.#storms.add(kind, this.#finish(draft), line.bootMs, line.wallMs)) this.#drafts.push(draft);
  }

  /**
   * What happened up to this time. Verdicts are given here and not at the line: the driver's own often comes a
   * millisecond later, and goes first.
   */
  take(bootMs: number): FleetEvent[] {
    this.#summarise(this.#storms.due(bootMs));
    return this.#drain();
  }

  /** All that there is: of a log that does not go on, or of a boot that is over. */
  flush(): FleetEvent[] {
    this.#summarise(this.#storms.flush());
    return this.#drain();
  }

  /** Lines since the last call that said they were an error and could not be read. */
  takeMalformed(): number {
    const count = this.#malformed;
    this.#malformed = 0;
    return count;
  }

  #drain(): FleetEvent[] {
    const events = this.#drafts.map((one) => ('finding' in one ? this.#finish(one) : one));
    this.#drafts = [];
    return events;
  }

  #summarise(storms: readonly Storm<FleetEvent>[]): void {
    for (const { held, firstMs, lastMs, event } of storms) {
      const seconds = Math.max(1, Math.round((lastMs - firstMs) / 1000));
      const attributes = { count: String(held), first_ms: String(firstMs), ...event.attributes };
      const text = `${held} more within ${seconds} s: ${event.text}`.slice(0, MAX_EVENT_TEXT);
      this.#drafts.push({
        ...event,
        timestampMs: lastMs,
        text,
        attributes: bounded({ ...attributes, count: String(held) }),
      });
    }
  }

  #count({ type, pci, counter }: Finding): void {
    const { counters } = this.#options;
    counters.add('kernel_log_events_total', { type });
    if (counter === undefined) return;
    // A switch or a port has labels of its own.
    const ofGpu = counter.name.startsWith('gpu_');
    const at = ofGpu && pci !== undefined ? this.#locate(pci) : undefined;
    const place =
      at === undefined ? { pci: ofGpu ? pci : undefined } : { gpu: at.gpu, uuid: at.uuid, model: at.model };
    counters.add(counter.name, { ...counter.labels, ...place });
  }

  #finish({ finding, membership, line, late }: Draft): FleetEvent {
    const at = finding.pci === undefined ? undefined : this.#locate(finding.pci);
    return {
      type: finding.type,
      timestampMs: Math.round(line.wallMs),
      gpu: at?.gpu ?? '',
      gpuUuid: at?.uuid ?? '',
      text: line.text.slice(0, MAX_EVENT_TEXT),
      attributes: bounded({
        code: finding.code,
        name: finding.name,
        ...verdict(finding, membership),
        source: this.#options.source,
        count: '1',
        pci: finding.pci,
        incident: membership?.incident.id,
        follows: membership?.follows,
        escalates: membership?.escalates,
        cancels: membership?.cancels,
        late: late ? 'true' : undefined,
        ...finding.details,
        catalogue: String(XID_CATALOGUE_VERSION),
      }),
    };
  }

  #locate(pci: string): GpuLocation | undefined {
    const known = this.#options.locate(pci);
    if (known !== undefined) return known;
    const uuid = this.#named.get(pci);
    return uuid === undefined ? undefined : { gpu: '', uuid, model: '' };
  }

  /** `NVRM: GPU at PCI:0000:91:00: GPU-b6c3...`: before the first Xid of a boot, also of a GPU that is gone by then. */
  #learn(text: string): void {
    const [, address = '', uuid] = text.includes('NVRM: GPU at ') ? (NAMED.exec(text) ?? []) : [];
    const pci = normalPci(address);
    if (pci === undefined || uuid === undefined) return;
    if (this.#named.size < MAX_NAMED || this.#named.has(pci)) this.#named.set(pci, uuid);
  }
}

/** The driver's own goes first, for the cause of the incident; then the site's; then the catalogue's. */
function verdict(
  { type, severity, action, reason = '' }: Finding,
  membership: Membership | undefined,
): Record<string, string | undefined> {
  const driver = membership?.follows === undefined ? membership?.incident.driver : undefined;
  if (driver === undefined || type === 'recovery_action') return { severity, action, reason };
  return {
    severity: worse(severity, driver.severity),
    action: driver.action,
    reason: 'the driver asks for it',
  };
}

/** Those that have a value, and at most as many as an event may have. */
function bounded(all: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const said = Object.entries(all).filter((pair): pair is [string, string] => !!pair[1]);
  return Object.fromEntries(said.slice(0, MAX_EVENT_ATTRIBUTES));
}
