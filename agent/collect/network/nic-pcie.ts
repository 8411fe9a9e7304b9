import { dirname } from 'node:path';
import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { FileColumn, type FileSample, fileSample, type ParseFile } from '../host-files/file-column.ts';
import type { FileReader } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { Facts, HostPaths } from '../source-kind.ts';
import type { LinkWatch } from './link-watch.ts';
import { gpuFunctions, locality, type PciFunction, pciFunction } from './pci.ts';

const MAX_NICS = 64;
/** GPUs come and go with their driver: where they are is looked at anew this often. */
const READS_PER_LOOK = 40;

/** GT/s of each generation. */
const GENERATIONS = new Map([
  ['2.5', 1],
  ['5.0', 2],
  ['5', 2],
  ['8.0', 3],
  ['8', 3],
  ['16.0', 4],
  ['16', 4],
  ['32.0', 5],
  ['32', 5],
  ['64.0', 6],
  ['64', 6],
]);

/** current_link_speed: `32.0 GT/s PCIe`; `Unknown` where the function does not say, and when the card fell off the bus. */
export const linkGeneration: ParseFile = (scanner) => {
  if (!scanner.line() || !scanner.word()) return Number.NaN;
  const text = scanner.text();
  if (text === 'Unknown') return -SlotState.NotSupported;
  const generation = GENERATIONS.get(text) ?? Number.NaN;
  return scanner.word() && scanner.text() === 'GT/s' ? generation : Number.NaN;
};

/** current_link_width: `16`; 0 where the function does not say, 63 and 255 when the card fell off the bus. */
export const linkWidth: ParseFile = (scanner) => {
  const lanes = scanner.line() && scanner.word() ? scanner.number() : Number.NaN;
  return lanes === 0 || lanes > MAX_LANES ? -SlotState.NotSupported : lanes;
};
const MAX_LANES = 32;

interface Nic {
  readonly device: string;
  readonly pci: PciFunction;
}
const METRICS = [
  ['nic_pcie_link_generation', 'current_link_speed', linkGeneration],
  ['nic_pcie_link_width', 'current_link_width', linkWidth],
  ['nic_pcie_link_generation_max', 'max_link_speed', linkGeneration],
  ['nic_pcie_link_width_max', 'max_link_width', linkWidth],
] as const;
/** Of a NIC, the pairs of what it has and could have. */
const PAIRS = [
  ['PCIe generation', 0, 2],
  ['PCIe lanes', 1, 3],
] as const;

/**
 * The PCIe links of network cards, whether they have lost speed or lanes, and which GPUs are near. What a link could
 * have is the least of card and slot; both are read, and the lower one stands.
 */
export class NicPciePart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #host: HostPaths;
  readonly #facts: Facts;
  readonly #watch: LinkWatch;
  readonly #column: FileColumn;
  readonly #slots: FileColumn;
  readonly #slotSamples = new SampleSet();
  #nics: readonly Nic[] = [];
  #near = 0;
  #listed = '';
  #shape = '';
  #reads = 0;

  constructor(
    reader: FileReader,
    host: HostPaths,
    options: { readonly facts: Facts; readonly watch: LinkWatch },
  ) {
    this.#reader = reader;
    this.#host = host;
    this.#facts = options.facts;
    this.#watch = options.watch;
    this.#column = new FileColumn(reader);
    this.#slots = new FileColumn(reader);
  }

  describe(): string {
    return this.#nics.length > 0 ? `${this.#nics.length} PCIe network cards` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const { samples } = this;
    const { sys } = this.#host;
    const infiniband = await this.#reader.list(`${sys}/class/infiniband`, '', signal);
    const net = await this.#reader.list(`${sys}/class/net`, '', signal);
    const listed = [...infiniband, '', ...net].join();
    if (this.#reads++ % READS_PER_LOOK === 0 || listed !== this.#listed) {
      await this.#look(infiniband, net, signal);
      if (!signal.aborted) this.#listed = listed;
    }
    samples.clear();
    this.#slotSamples.clear();
    await this.#column.read(samples, signal);
    await this.#slots.read(this.#slotSamples, signal);
    for (let i = 1; i <= this.#near; i++) samples.put(samples.series.length - i, 1);
    this.#nics.forEach((nic, i) => {
      this.#compare(nic, i);
    });
  }

  #compare({ device, pci: { busId } }: Nic, nic: number): void {
    const { samples } = this;
    for (const [what, has, could] of PAIRS) {
      const now = samples.valueAt(nic * METRICS.length + has);
      const card = samples.valueAt(nic * METRICS.length + could);
      if (now === undefined || card === undefined) continue;
      const full = Math.min(card, this.#slotSamples.valueAt(nic * PAIRS.length + has) ?? card);
      samples.put(nic * METRICS.length + could, full);
      const fact = `pcie/${busId}/${has}`;
      const told = this.#facts.get(fact) ?? '';
      const state = now < full ? String(now) : '';
      if (state === told) continue;
      this.#facts.set(fact, state);
      const attributes = { kind: 'pcie', device, pci: busId };
      this.#watch.degraded(attributes, what, String(full), String(now), state === '');
    }
  }

  async #look(infiniband: readonly string[], net: readonly string[], signal: AbortSignal): Promise<void> {
    const { sys } = this.#host;
    const nics = new Map<string, Nic>();
    const paths = [
      ...infiniband.map((device) => [device, `${sys}/class/infiniband/${device}`] as const),
      ...net.map((device) => [device, `${sys}/class/net/${device}`] as const),
    ];
    for (const [device, path] of paths) {
      const pci = await pciFunction(this.#reader, `${path}/device`, device, signal);
      if (!pci || nics.has(pci.busId) || nics.size >= MAX_NICS) continue;
      // A virtual function has no link of its own.
      if ((await this.#reader.target(`${pci.path}/physfn`, device, signal)) === undefined)
        nics.set(pci.busId, { device, pci });
    }
    const found = [...nics.values()];
    const near = await this.#nearGpus(found, signal);
    const shape = JSON.stringify([found, near]);
    if (signal.aborted || shape === this.#shape) return;
    this.#shape = shape;
    this.#nics = found;
    this.#near = near.length;
    this.samples.plan([...this.#column.use(found.flatMap(cardFiles)), ...near]);
    this.#slotSamples.plan(this.#slots.use(found.flatMap(slotFiles)));
  }

  async #nearGpus(nics: readonly Nic[], signal: AbortSignal): Promise<Series[]> {
    const gpus = await gpuFunctions(this.#reader, this.#host, signal);
    return nics.flatMap(({ pci }) =>
      gpus.flatMap((gpu) => {
        const path = locality(pci.path, gpu.path);
        if (path === undefined) return [];
        return [
          canonicalSeries('nic_gpu_locality_info', {
            pci_bus_id: pci.busId,
            gpu_pci_bus_id: gpu.busId,
            path,
          }),
        ];
      }),
    );
  }
}

function cardFiles({ device, pci }: Nic): FileSample[] {
  return METRICS.map(([name, file, parse]) =>
    fileSample(`${pci.path}/${file}`, device, canonicalSeries(name, { pci_bus_id: pci.busId }), { parse }),
  );
}

/** What the bridge above the card could do; series that nobody sees. */
function slotFiles({ device, pci }: Nic): FileSample[] {
  return METRICS.slice(PAIRS.length).map(([name, file, parse]) =>
    fileSample(`${dirname(pci.path)}/${file}`, device, canonicalSeries(name, { pci_bus_id: pci.busId }), {
      parse,
    }),
  );
}
