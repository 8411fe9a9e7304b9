import type { Clock } from '#shared/model/clock.ts';
import type { Series } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { canonicalSeries } from '../../canonical-series.ts';
import type { GpuIdentities } from '../../gpu-identity.ts';
import { normalPci } from '../../gpu-identity.ts';
import type { DescribedGpu, NvmlDescription } from './description.ts';
import { Group, slotOfCode } from './fields.ts';

/** What the readings of one group mean: made anew when the description is. */
export interface GroupPlan {
  /** Those of the child's slots in order, then those of lost GPUs, then gpu_info. */
  readonly series: readonly Series[];
  /** How many slots the child gives. */
  readonly slots: number;
  /** Indices of gpu_up of the GPUs that the child gives, in its order. */
  readonly ups: readonly number[];
  /** Indices of gpu_up of GPUs that are lost. */
  readonly down: readonly number[];
  /** Indices of what else was read of a GPU while it was there. */
  readonly lost: readonly number[];
  /** Indices of what is always 1. */
  readonly ones: readonly number[];
}

interface Device {
  /** UUID; of a GPU that could never be opened, its index. */
  readonly key: string;
  readonly gpu: string;
  readonly uuid: string;
  readonly serial: string;
  readonly pci: string;
  readonly model: string;
  /** By group, as the child gives them. */
  readonly series: readonly (readonly Series[])[];
  readonly info: Series | undefined;
  lost: boolean;
}

/** Of a node that had more GPUs lost than that something else is wrong. */
const MAX_LOST = 64;
/** A GPU that was last seen longer ago was taken out on purpose, as far as this source is concerned. */
const REMEMBERED_MS = 7 * 86_400_000;
const GROUPS: readonly Group[] = [Group.Fast, Group.Slow];

/**
 * The GPUs of the node: those that are there, and those that were. A GPU that is lost keeps its series, whose slots
 * say so, and gpu_up is 0, until it is back or another board is in its slot. It is recognised by its UUID, also after
 * a restart of the agent (see GpuIdentities).
 */
export class DeviceSet {
  readonly #source: string;
  readonly #identities: GpuIdentities;
  readonly #clock: Clock;
  #devices = new Map<string, Device>();
  #present: readonly Device[] = [];
  #described: object | undefined;
  #plans: readonly GroupPlan[] = [];
  #events: FleetEvent[] = [];
  #driver = '';

  constructor(options: {
    readonly source: string;
    readonly identities: GpuIdentities;
    readonly clock: Clock;
  }) {
    this.#source = options.source;
    this.#identities = options.identities;
    this.#clock = options.clock;
  }

  get count(): number {
    return this.#devices.size;
  }

  get driver(): string {
    return this.#driver;
  }

  takeEvents(): FleetEvent[] {
    return this.#events.splice(0);
  }

  /** The plan of a group under a description: the same object as long as nothing changed. */
  plan(description: object, group: Group): GroupPlan {
    if (description !== this.#described) {
      this.#take(description as NvmlDescription);
      this.#described = description;
      this.#plans = GROUPS.map((one) => this.#compile(one));
    }
    return this.#plans[group]!;
  }

  /** To be called with each reading of the fast group: says which GPU is lost, and which is back. */
  observe(plan: GroupPlan, values: Float64Array): void {
    for (const [i, index] of plan.ups.entries()) {
      const device = this.#present[i]!;
      if (values[index] === 0)
        this.#lose(device, 'the driver says that it has fallen off the bus or cannot be reached');
      else if (device.lost) this.#find(device);
    }
  }

  #take({ driver, gpus, faults }: NvmlDescription): void {
    const isFirst = this.#described === undefined;
    this.#driver = driver;
    const before = this.#devices;
    this.#present = gpus.map((gpu) => deviceOf(gpu, driver, before.get(gpu.uuid)?.lost ?? false));
    if (isFirst) this.#remember();
    const slots = new Set(this.#present.map(({ pci }) => pci));
    const faultOf = new Map(faults.map(({ index, text }) => [String(index), text]));
    this.#devices = new Map(this.#present.map((device) => [device.key, device]));
    for (const device of before.values()) {
      const why = faultOf.get(device.gpu);
      const isGone =
        device.uuid === '' ? why === undefined : slots.has(device.pci) || this.#devices.size >= MAX_LOST;
      if (this.#devices.has(device.key) || isGone) continue;
      this.#devices.set(device.key, device);
      this.#lose(device, why ?? 'the driver no longer lists it');
      faultOf.delete(device.gpu);
    }
    for (const [gpu, why] of faultOf) {
      const device = strangerOf(gpu);
      this.#devices.set(device.key, device);
      this.#lose(device, why);
    }
    for (const device of this.#present) this.#note(device);
  }

  /** GPUs that were there before the agent was started, and are not now. */
  #remember(): void {
    const taken = new Set(this.#present.flatMap(({ uuid, pci }) => [uuid, pci]));
    const since = this.#clock.now() - REMEMBERED_MS;
    for (const { uuid, pci, seenMs, lost, gpu, serial, model } of this.#identities.all) {
      if (taken.has(uuid) || taken.has(pci) || seenMs < since || !uuid.startsWith('GPU-')) continue;
      const series = [[canonicalSeries('gpu_up', { gpu, uuid, model })], []];
      this.#devices.set(uuid, { key: uuid, gpu, uuid, serial, pci, model, series, info: undefined, lost });
    }
    for (const device of this.#present) device.lost = this.#identities.byUuid(device.uuid)?.lost ?? false;
  }

  #note(device: Device): void {
    const { uuid, serial, pci, gpu, model } = device;
    if (!device.lost) this.#identities.note({ pci, uuid, serial, gpu, model });
  }

  #lose(device: Device, why: string): void {
    if (device.lost) return;
    device.lost = true;
    this.#identities.noteLost(device.uuid);
    this.#say('gpu_lost', device, `GPU ${device.gpu} is lost: ${why}`);
  }

  #find(device: Device): void {
    device.lost = false;
    this.#note(device);
    this.#say('gpu_back', device, `GPU ${device.gpu} is back`);
  }

  #say(type: 'gpu_lost' | 'gpu_back', { gpu, uuid, serial, pci }: Device, what: string): void {
    const details = { pci, serial };
    const given = Object.entries(details).filter(([, value]) => value !== '');
    this.#events.push({
      type,
      timestampMs: this.#clock.now(),
      gpu,
      gpuUuid: uuid,
      text: `${what} (${[uuid, ...given.map(([name, value]) => `${name} ${value}`)].filter(Boolean).join(', ')})`,
      attributes: { source: this.#source, ...Object.fromEntries(given) },
    });
  }

  #compile(group: Group): GroupPlan {
    const series: Series[] = this.#present.flatMap((device) => device.series[group]!);
    const slots = series.length;
    const ups = indicesOf(series, 'gpu_up');
    const present = new Set(this.#present);
    for (const device of this.#devices.values())
      if (!present.has(device)) series.push(...device.series[group]!);
    const down = indicesOf(series, 'gpu_up').filter((index) => index >= slots);
    const lost = series.flatMap((_, index) => (index < slots || down.includes(index) ? [] : [index]));
    const ones: number[] = [];
    if (group === Group.Slow) {
      for (const { info } of this.#devices.values()) if (info) ones.push(series.push(info) - 1);
    }
    return { series, slots, ups, down, lost, ones };
  }
}

function indicesOf(series: readonly Series[], name: string): number[] {
  return series.flatMap((one, index) => (one.name === name ? [index] : []));
}

function deviceOf(described: DescribedGpu, driver: string, lost: boolean): Device {
  const { uuid, serial, model, vbios, minor } = described;
  const identity = { gpu: String(described.index), uuid, model };
  return {
    ...identity,
    key: uuid,
    serial,
    pci: normalPci(described.pci) ?? '',
    series: described.slots.map((codes) => codes.map((code) => seriesOf(code, identity))),
    info: canonicalSeries('gpu_info', {
      ...identity,
      vendor: 'nvidia',
      serial,
      pci_bus_id: described.pci,
      driver_version: driver,
      vbios_version: vbios,
      device: minor === '' ? undefined : `nvidia${minor}`,
    }),
    lost,
  };
}

/** A GPU that was never open: nothing but its index is known. */
function strangerOf(gpu: string): Device {
  const series = [[canonicalSeries('gpu_up', { gpu })], []];
  return {
    key: `index ${gpu}`,
    gpu,
    uuid: '',
    serial: '',
    pci: '',
    model: '',
    series,
    info: undefined,
    lost: false,
  };
}

function seriesOf(code: number, identity: Readonly<Record<string, string>>): Series {
  const { field, link } = slotOfCode(code);
  if (!field) throw new RangeError(`no series has the code ${code}`);
  const ofLink = link < 0 ? {} : { link: String(link) };
  return canonicalSeries(field.metric, { ...identity, ...field.labels, ...ofLink });
}
