import type { Series } from '#shared/model/dictionary.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { FileColumn, type FileSample, fileSample, type ParseFile } from '../host-files/file-column.ts';
import type { FileReader } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';
import { hwCounters, PORT_COUNTERS } from './ib-counters.ts';
import type { LinkWatch } from './link-watch.ts';
import { pciFunction } from './pci.ts';

const MAX_PORTS = 64;
/** Firmware and counters change with a driver: looked at anew this often, and when a device comes or goes. */
const READS_PER_LOOK = 40;
/** ibv_port_state */
const ACTIVE = 4;
const GIGA = 1e9;
const NETDEVS_SHOWN = 4;

/** state and phys_state: `4: ACTIVE`, `5: LinkUp` */
const enumeration: ParseFile = (scanner) => {
  const code = scanner.line() && scanner.word() ? /^(\d{1,3}):$/.exec(scanner.text())?.[1] : undefined;
  return code === undefined ? Number.NaN : Number(code);
};

/** rate: `400 Gb/sec (4X NDR)` */
const rate: ParseFile = (scanner) => {
  if (!scanner.line() || !scanner.word()) return Number.NaN;
  const value = scanner.number();
  return scanner.word() && scanner.text() === 'Gb/sec' ? value : Number.NaN;
};

interface Port {
  readonly device: string;
  readonly port: string;
  /** Where its series are in the set: the state, and link_downed where it has that. */
  readonly state: number;
  readonly linkDowned: number;
}
/** Of a port, from its first series on. */
const RATE = 2;

/**
 * Ports of <sys>/class/infiniband, which InfiniBand and RoCE cards have. Names are this product's (ib_*); a port's
 * counters of InfiniBand's first generation are 8 to 32 bits wide and stay at their highest value.
 */
export class InfinibandPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #root: string;
  readonly #wanted: 'errors' | 'all' | 'none';
  readonly #watch: LinkWatch;
  readonly #column: FileColumn;
  #infos: readonly Series[] = [];
  #ports: readonly Port[] = [];
  #devices = '';
  #shape = '';
  #reads = 0;

  constructor(
    reader: FileReader,
    { sys }: HostPaths,
    options: { readonly hwCounters: 'errors' | 'all' | 'none'; readonly watch: LinkWatch },
  ) {
    this.#reader = reader;
    this.#root = `${sys}/class/infiniband`;
    this.#wanted = options.hwCounters;
    this.#watch = options.watch;
    this.#column = new FileColumn(reader);
  }

  describe(): string {
    return this.#ports.length > 0 ? `${this.#ports.length} InfiniBand ports` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const { samples } = this;
    const devices = await this.#reader.list(this.#root, '', signal);
    if (this.#reads++ % READS_PER_LOOK === 0 || devices.join() !== this.#devices)
      await this.#look(devices, signal);
    samples.clear();
    await this.#column.read(samples, signal);
    const first = samples.series.length - this.#infos.length;
    for (let i = 0; i < this.#infos.length; i++) samples.put(first + i, 1);
    for (const port of this.#ports) this.#observe(port);
  }

  #observe({ device, port, state, linkDowned }: Port): void {
    const { samples } = this;
    const code = samples.valueAt(state);
    this.#watch.observe(keyOf(device, port), {
      attributes: { kind: 'infiniband', device, port },
      up: code === undefined ? undefined : code === ACTIVE,
      downs: linkDowned < 0 ? undefined : samples.valueAt(linkDowned),
      rate: samples.valueAt(state + RATE),
    });
  }

  async #look(devices: readonly string[], signal: AbortSignal): Promise<void> {
    const files: FileSample[] = [];
    const infos: Series[] = [];
    const ports: Port[] = [];
    for (const device of devices) {
      const path = `${this.#root}/${device}`;
      for (const port of await this.#reader.list(`${path}/ports`, device, signal)) {
        if (!/^\d{1,3}$/.test(port) || ports.length >= MAX_PORTS) continue;
        const state = files.length;
        files.push(...(await this.#filesOf(device, port, signal)));
        const linkDowned = files.findIndex(
          ({ series }, i) => i > state && series.name === 'ib_link_downed_total',
        );
        ports.push({ device, port, state, linkDowned });
        infos.push(await this.#info(device, port, signal));
      }
    }
    // A look that was cut short says nothing about what is gone.
    if (signal.aborted) return;
    this.#devices = devices.join();
    this.#watch.keepKind('ib/', new Set(ports.map(({ device, port }) => keyOf(device, port))));
    const shape = JSON.stringify([files.map(({ file }) => file.path), infos]);
    if (shape === this.#shape) return;
    this.#shape = shape;
    this.#ports = ports;
    this.#infos = infos;
    this.samples.plan([...this.#column.use(files), ...infos]);
  }

  async #filesOf(device: string, port: string, signal: AbortSignal): Promise<FileSample[]> {
    const folder = `${this.#root}/${device}/ports/${port}`;
    const labels = { device, port };
    const one = (name: string, file: string, parse: ParseFile, times = 1): FileSample =>
      fileSample(`${folder}/${file}`, device, canonicalSeries(name, labels), { parse, times });
    const files = [
      one('ib_port_state', 'state', enumeration),
      one('ib_port_physical_state', 'phys_state', enumeration),
      one('ib_port_rate_bits_per_second', 'rate', rate, GIGA),
    ];
    const there = new Set(await this.#reader.list(`${folder}/counters`, device, signal));
    for (const [name, { metric, labels: own, times }] of PORT_COUNTERS) {
      if (!there.has(name)) continue;
      const series = canonicalSeries(metric, { ...labels, ...own });
      files.push(fileSample(`${folder}/counters/${name}`, device, series, { times }));
    }
    const extra = await this.#reader.list(`${folder}/hw_counters`, device, signal);
    for (const counter of hwCounters(extra, this.#wanted)) {
      const series = canonicalSeries('ib_hw_counter_total', { ...labels, counter });
      files.push(fileSample(`${folder}/hw_counters/${counter}`, device, series));
    }
    return files;
  }

  async #info(device: string, port: string, signal: AbortSignal): Promise<Series> {
    const path = `${this.#root}/${device}`;
    const text = (file: string): Promise<string | undefined> =>
      this.#reader.text(`${path}/${file}`, device, signal);
    const pci = await pciFunction(this.#reader, `${path}/device`, device, signal);
    const netdevs = await this.#reader.list(`${path}/device/net`, device, signal);
    return canonicalSeries('ib_port_info', {
      device,
      port,
      link_layer: await text(`ports/${port}/link_layer`),
      model: await text('hca_type'),
      board_id: await text('board_id'),
      firmware: await text('fw_ver'),
      netdev: netdevs.slice(0, NETDEVS_SHOWN).join(','),
      pci_bus_id: pci?.busId,
      numa_node: pci?.numaNode,
    });
  }
}

function keyOf(device: string, port: string): string {
  return `ib/${device}/${port}`;
}
