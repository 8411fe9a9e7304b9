import type { Series } from '#shared/model/dictionary.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { ByteScanner, ColumnCount } from '../host-files/byte-scanner.ts';
import { FileColumn, type FileSample, fileSample, type ParseFile } from '../host-files/file-column.ts';
import { type FileReader, HostFile } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';
import type { LinkWatch } from './link-watch.ts';
import { pciFunction } from './pci.ts';

const MAX_INTERFACES = 64;
const LOOPBACK = 'lo';
/** speed is in Mb/s. */
const BYTES_PER_MEGABIT = 125_000;
const BITS_PER_BYTE = 8;

/** The columns of /proc/net/dev that are read; its fifo, compressed, multicast and collision columns are not. */
const COLUMNS: readonly (string | undefined)[] = [
  'node_network_receive_bytes_total',
  'node_network_receive_packets_total',
  'node_network_receive_errs_total',
  'node_network_receive_drop_total',
  undefined,
  'node_network_receive_frame_total',
  undefined,
  undefined,
  'node_network_transmit_bytes_total',
  'node_network_transmit_packets_total',
  'node_network_transmit_errs_total',
  'node_network_transmit_drop_total',
  undefined,
  undefined,
  'node_network_transmit_carrier_total',
];
const COUNTERS = COLUMNS.filter((column) => column !== undefined);

/** operstate: `up`, `down`, `lowerlayerdown`, `dormant`, `unknown` (a driver that does not say) ... */
const operstate: ParseFile = (scanner) => {
  if (!scanner.line() || !scanner.word()) return Number.NaN;
  const state = scanner.text();
  if (state === 'unknown') return -SlotState.NotSupported;
  return OPERSTATES.has(state) ? (state === 'up' ? 1 : 0) : Number.NaN;
};
/** RFC 2863, as the kernel writes it. */
const OPERSTATES = new Set(['up', 'down', 'lowerlayerdown', 'dormant', 'testing', 'notpresent']);

/** speed: `100000`; -1 where the driver does not know. While the link is down the kernel refuses the read. */
const speed: ParseFile = (scanner) => {
  if (!scanner.line() || !scanner.word()) return Number.NaN;
  return scanner.text() === '-1' ? -SlotState.NotSupported : scanner.number();
};

/** Series of an interface that have a file of their own, in this order. */
const UP = 0;
const SPEED = 1;
const CARRIER = 2;
const FILES = 3;

/**
 * Interfaces of <sys>/class/net under node_exporter's names. Traffic comes from /proc/net/dev, which has the numbers
 * of statistics/ in one file for all.
 *
 *     Inter-|   Receive                                                |  Transmit
 *      face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
 *       eth0: 71446810  48341    0    0    0     0          0         0  2893712   37265    0    0    0     0       0          0
 */
export class EthernetPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #root: string;
  readonly #netDev: HostFile;
  readonly #virtual: boolean;
  readonly #watch: LinkWatch;
  readonly #column: FileColumn;
  readonly #scanner = new ByteScanner();
  readonly #columnCount = new ColumnCount(COLUMNS.length);
  #listed = '';
  #interfaces: readonly string[] = [];
  /** As /proc/net/dev begins their lines. */
  #heads: readonly Buffer[] = [];
  #infos = 0;

  constructor(
    reader: FileReader,
    { proc, sys }: HostPaths,
    options: { readonly virtual: boolean; readonly watch: LinkWatch },
  ) {
    this.#reader = reader;
    this.#root = `${sys}/class/net`;
    this.#netDev = new HostFile(`${proc}/net/dev`, '');
    this.#virtual = options.virtual;
    this.#watch = options.watch;
    this.#column = new FileColumn(reader);
  }

  describe(): string {
    return this.#interfaces.length > 0 ? `${this.#interfaces.length} network interfaces` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const { samples } = this;
    const listed = await this.#reader.list(this.#root, '', signal);
    if (listed.join() !== this.#listed) await this.#look(listed, signal);
    samples.clear();
    await this.#column.read(samples, signal);
    const counters = this.#interfaces.length * FILES;
    const length = await this.#reader.read(this.#netDev, signal);
    if (length >= 0) this.#traffic(length, counters);
    else for (let i = counters; i < samples.series.length; i++) samples.missFrom(i, length);
    for (let i = 1; i <= this.#infos; i++) samples.put(samples.series.length - i, 1);
    this.#interfaces.forEach((device, i) => {
      this.#observe(device, i * FILES);
    });
  }

  #observe(device: string, first: number): void {
    const { samples } = this;
    const up = samples.valueAt(first + UP);
    // Refused or left over from before: without a link there is no speed.
    if (up === 0) samples.miss(first + SPEED, SlotState.Absent);
    const bytes = samples.valueAt(first + SPEED);
    const changes = samples.valueAt(first + CARRIER);
    this.#watch.observe(keyOf(device), {
      attributes: { kind: 'ethernet', device },
      up: up === undefined ? undefined : up === 1,
      // The carrier is off at first: every second change is a loss.
      downs: changes === undefined ? undefined : Math.floor(changes / 2),
      rate: bytes === undefined ? undefined : bytes * BITS_PER_BYTE,
    });
  }

  #traffic(length: number, first: number): void {
    const scanner = this.#scanner.reset(this.#reader.bytes, length);
    while (scanner.line()) {
      const device = scanner.word() ? scanner.match(this.#heads) : -1;
      if (device < 0) continue;
      if (!this.#columnCount.fits(scanner)) {
        this.samples.malformed();
        continue;
      }
      let at = first + device * COUNTERS.length;
      for (const column of COLUMNS) {
        const value = scanner.word() ? scanner.number() : Number.NaN;
        if (column !== undefined) this.samples.put(at++, value);
      }
    }
  }

  async #look(listed: readonly string[], signal: AbortSignal): Promise<void> {
    const interfaces: string[] = [];
    const infos: Series[] = [];
    for (const device of listed) {
      if (device === LOOPBACK || interfaces.length >= MAX_INTERFACES) continue;
      const link = `${this.#root}/${device}/device`;
      const target = await this.#reader.target(link, device, signal);
      if (target === undefined && !this.#virtual) continue;
      interfaces.push(device);
      const pci = await pciFunction(this.#reader, link, device, signal);
      if (pci)
        infos.push(canonicalSeries('nic_info', { device, pci_bus_id: pci.busId, numa_node: pci.numaNode }));
    }
    if (signal.aborted) return;
    this.#listed = listed.join();
    this.#watch.keepKind('net/', new Set(interfaces.map(keyOf)));
    this.#interfaces = interfaces;
    this.#heads = interfaces.map((device) => Buffer.from(`${device}:`));
    this.#infos = infos.length;
    this.samples.plan([
      ...this.#column.use(interfaces.flatMap((device) => this.#filesOf(device))),
      ...interfaces.flatMap((device) => COUNTERS.map((name) => canonicalSeries(name, { device }))),
      ...infos,
    ]);
  }

  #filesOf(device: string): FileSample[] {
    const path = `${this.#root}/${device}`;
    const series = (name: string): Series => canonicalSeries(name, { device });
    return [
      fileSample(`${path}/operstate`, device, series('node_network_up'), { parse: operstate }),
      fileSample(`${path}/speed`, device, series('node_network_speed_bytes'), {
        parse: speed,
        times: BYTES_PER_MEGABIT,
      }),
      fileSample(`${path}/carrier_changes`, device, series('node_network_carrier_changes_total')),
    ];
  }
}

function keyOf(device: string): string {
  return `net/${device}`;
}
