import { type AmdField, amdFields } from '#shared/catalogue/amd.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../../collector.ts';
import type { GpuRoster, KnownGpu } from '../gpu-roster.ts';
import { GpuTable, type PlannedGpu } from '../gpu-table.ts';
import { ThrottleTime } from '../throttle-time.ts';
import { type Open, openForReading } from './attribute-file.ts';
import { Card } from './card.ts';
import { cardNames, type FoundCard, findCard } from './find-cards.ts';

export interface AmdSysfsOptions {
  /** `metrics`: also says which GPUs are there. `ras`: error counts, which cost the driver more. */
  readonly part: 'metrics' | 'ras';
  /** /sys */
  readonly sys: string;
  readonly intervalMs: number;
  readonly clock: Clock;
  /** Shared by both parts; only `metrics` writes it. */
  readonly roster: GpuRoster;
  readonly open?: Open;
}

/** Names, facts and sensors of the cards are looked up again after this, and when a card comes or goes. */
const LOOK_AGAIN_MS = 60_000;
/**
 * Cards read at the same time. Each may hang in the kernel and then keeps one of the four threads that all file
 * access of this process has: two are left for the others.
 */
const MAX_AT_ONCE = 2;

const isRas = ({ keys }: AmdField): boolean => keys.sysfs.some(({ key }) => /^(ras\/|xgmi_error)/.test(key));

/**
 * The amdgpu driver's files: no tool, no library, nothing opened that the driver would miss. A file that is missing
 * is NotSupported, one that may not be read NoPermission, what the firmware does not know Blank; a card that is
 * gone or off the bus is lost at once. What is not read within the deadline is Timeout, and a card that hangs is
 * left alone until its read returns.
 */
export function createAmdSysfsCollector(options: AmdSysfsOptions): Collector {
  return new AmdSysfsCollector(options);
}

class AmdSysfsCollector implements Collector {
  readonly name: string;
  readonly rank = SOURCE_RANK.amd_sysfs;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #options: AmdSysfsOptions;
  readonly #fields: readonly AmdField[];
  readonly #table: GpuTable;
  readonly #throttleTime = new ThrottleTime();
  /** By PCI address. */
  readonly #cards = new Map<string, Card>();
  readonly #stuck = new Set<Card>();
  #names = '';
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** What the plan was made of. */
  #planned = '';
  /** In the plan's order; undefined: lost. */
  #live: (Card | undefined)[] = [];
  #facts: (FoundCard['facts'] | undefined)[] = [];
  /** By GPU in the plan: index of each of its fields in the card's. */
  #columns: Int32Array[] = [];

  constructor(options: AmdSysfsOptions) {
    const { part, intervalMs, clock } = options;
    this.name = part === 'ras' ? 'amd-sysfs-ras' : 'amd-sysfs';
    this.intervalMs = intervalMs;
    this.#options = options;
    this.#fields = amdFields('sysfs').filter((field) => isRas(field) === (part === 'ras'));
    this.#table = new GpuTable({ source: this.name, intervalMs, clock });
  }

  describe(): string {
    const there = this.#live.filter((card) => card !== undefined).length;
    return `amdgpu in ${this.#options.sys}/class/drm, ${there} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const { clock, roster, part } = this.#options;
    this.#table.begin();
    const timestampMs = clock.now();
    await this.#look();
    const alive = await this.#readAll(signal);
    const events: FleetEvent[] = this.#stuckEvents(timestampMs);
    if (part === 'metrics') {
      const seen = [...this.#cards.values()].filter((card) => alive.get(card) !== false);
      events.push(
        ...roster.observe(
          seen.map(({ found: { pci, uuid, model, facts } }) => ({
            pci,
            uuid,
            model,
            serial: facts.serial ?? '',
          })),
          timestampMs,
        ),
      );
    }
    this.#plan(alive);
    this.#fill(alive);
    if (this.#cards.size === 0 && roster.known.length === 0)
      return this.#table.failed(
        SlotState.Absent,
        events,
        `no GPU of amdgpu in ${this.#options.sys}/class/drm`,
      );
    return this.#table.finish(events);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A card that hangs would be waited for without end.
    await Promise.all([...this.#cards.values()].filter(({ busy }) => !busy).map((card) => card.close()));
    this.#cards.clear();
  }

  /** Which cards there are. One folder listing, where nothing changed. */
  async #look(): Promise<void> {
    const { sys, clock } = this.#options;
    const names = await cardNames(sys);
    const now = clock.monotonic();
    const joined = names.join();
    if (joined === this.#names && now - this.#lookedAt < LOOK_AGAIN_MS) return;
    this.#names = joined;
    this.#lookedAt = now;
    const found = (await Promise.all(names.map((name) => findCard(sys, name)))).filter(
      (one) => one !== undefined,
    );
    for (const [pci, card] of this.#cards) {
      if (found.some((one) => one.pci === pci && isSame(one, card.found))) continue;
      this.#cards.delete(pci);
      if (!card.busy) await card.close();
    }
    for (const one of found) if (!this.#cards.has(one.pci)) this.#cards.set(one.pci, this.#newCard(one));
  }

  #newCard(found: FoundCard): Card {
    return new Card(found, this.#fields, this.#options.open ?? openForReading, this.#throttleTime);
  }

  /** Of each card that was read in time: whether it is alive. */
  async #readAll(signal: AbortSignal): Promise<Map<Card, boolean>> {
    const { clock } = this.#options;
    const alive = new Map<Card, boolean>();
    const hanging = [...this.#cards.values()].filter(({ busy }) => busy).length;
    const waiting = [...this.#cards.values()].filter(({ busy }) => !busy);
    let over = false;
    const lane = async (): Promise<void> => {
      for (let card = waiting.shift(); card && !over && !signal.aborted; card = waiting.shift()) {
        const one = card;
        const answer = await one.read(() => clock.monotonic());
        // Later than that, the answer belongs to no tick.
        if (!over) alive.set(one, answer);
      }
    };
    const lanes = Array.from({ length: Math.max(MAX_AT_ONCE - hanging, 0) }, lane);
    await Promise.race([Promise.all(lanes), aborted(signal)]);
    over = true;
    // A lost card may come back with other sensors, and under the same name.
    for (const answer of alive.values()) if (!answer) this.#lookedAt = Number.NEGATIVE_INFINITY;
    return alive;
  }

  #stuckEvents(timestampMs: number): FleetEvent[] {
    const events: FleetEvent[] = [];
    const say = (card: Card, text: string): void => {
      const known = this.#options.roster.of(card.found.pci);
      events.push({
        type: 'collector_stuck',
        timestampMs,
        gpu: known ? String(known.index) : '',
        gpuUuid: card.found.uuid,
        text,
        attributes: { source: this.name, pci_bus_id: card.found.pci },
      });
    };
    for (const card of this.#cards.values()) {
      if (card.busy && !this.#stuck.has(card)) {
        this.#stuck.add(card);
        say(card, `${this.name} waits for the driver's answer about the GPU at ${card.found.pci}`);
      }
    }
    for (const card of this.#stuck) {
      if (card.busy && this.#cards.get(card.found.pci) === card) continue;
      this.#stuck.delete(card);
      say(card, `${this.name}: the driver answers again about the GPU at ${card.found.pci}`);
    }
    return events;
  }

  #plan(alive: ReadonlyMap<Card, boolean>): void {
    const { roster, part } = this.#options;
    this.#live = roster.known.map((gpu) => this.#liveCard(gpu, alive));
    const key = JSON.stringify(
      roster.known.map((gpu) => [gpu.index, gpu.uuid, gpu.model, this.#cards.get(gpu.pci)?.version]),
    );
    if (key === this.#planned && this.#live.every((card, g) => !card || this.#facts[g] === card.found.facts))
      return;
    this.#planned = key;
    this.#columns = [];
    const before = this.#table.gpus;
    const gpus = roster.known.map((gpu, g): PlannedGpu => {
      const card = this.#cards.get(gpu.pci);
      const identity = { gpu: String(gpu.index), uuid: gpu.uuid, model: gpu.model };
      // A card that is gone keeps the series that it had.
      const was = before.find(
        (one) => one.identity.gpu === identity.gpu && one.identity.uuid === identity.uuid,
      );
      if (!card) this.#facts[g] = undefined;
      else this.#facts[g] = card.found.facts;
      const shown = card ? [...card.fields.keys()].filter((i) => card.shown[i] === 1) : [];
      this.#columns.push(Int32Array.from(shown));
      const facts = card ? card.found.facts : was?.facts;
      return {
        identity,
        fields: card
          ? shown.map((i) => card.fields[i]!)
          : (was?.fields ?? this.#fields.filter((f) => !f.instance)),
        facts:
          part === 'metrics'
            ? (facts ?? { vendor: 'amd', pci_bus_id: gpu.pci, serial: gpu.serial })
            : undefined,
        presence: part === 'metrics',
      };
    });
    this.#table.plan(gpus);
  }

  #liveCard(gpu: KnownGpu, alive: ReadonlyMap<Card, boolean>): Card | undefined {
    const card = this.#cards.get(gpu.pci);
    return card && gpu.lostAt === undefined && alive.get(card) !== false ? card : undefined;
  }

  #fill(alive: ReadonlyMap<Card, boolean>): void {
    for (const [g, card] of this.#live.entries()) {
      if (!card) {
        this.#table.allMiss(g, SlotState.GpuLost);
        continue;
      }
      if (!alive.has(card)) {
        this.#table.allMiss(g, SlotState.Timeout);
        continue;
      }
      this.#table.here(g);
      this.#table.reject('malformed', card.malformed);
      for (const [i, field] of this.#columns[g]!.entries()) {
        const state = card.states[field]! as SlotState;
        if (state === SlotState.Present) this.#table.offer(g, i, card.values[field]!);
        else this.#table.miss(g, i, state);
      }
    }
  }
}

/** Facts may change while the card stays (a partition mode): the card is then made anew, with its files. */
function isSame(one: FoundCard, other: FoundCard): boolean {
  return (
    one.path === other.path &&
    one.uuid === other.uuid &&
    JSON.stringify([one.facts, one.sensors?.folder]) === JSON.stringify([other.facts, other.sensors?.folder])
  );
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
