import { canonicalSeries } from '../canonical-series.ts';
import { FileColumn, type FileSample, fileSample } from '../host-files/file-column.ts';
import type { FileReader } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';
import { NOT_A_DISK } from './disks.ts';

/** Memory controllers: two sockets of eight, and as many again. */
const MAX_CONTROLLERS = 32;
const MAX_DIMMS = 128;
const MAX_DISKS = 64;

/**
 * What the machine itself counts as broken: memory errors (EDAC) by controller and DIMM, errors that SCSI disks and
 * ext4 saw, degraded arrays. Looked for anew at each read: these are few and rarely read.
 */
export class HardwareErrorsPart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #sys: string;
  readonly #column: FileColumn;
  #paths = '';
  #controllers = 0;

  constructor(reader: FileReader, { sys }: HostPaths) {
    this.#reader = reader;
    this.#sys = sys;
    this.#column = new FileColumn(reader);
  }

  describe(): string {
    return this.#controllers > 0 ? `EDAC of ${this.#controllers} memory controllers` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    const found = [
      ...(await this.#memory(signal)),
      ...(await this.#disks(signal)),
      ...(await this.#ext4(signal)),
    ];
    const paths = found.map(({ file }) => file.path).join('\n');
    if (paths !== this.#paths) this.samples.plan(this.#column.use(found));
    this.#paths = paths;
    this.samples.clear();
    await this.#column.read(this.samples, signal);
  }

  async #memory(signal: AbortSignal): Promise<FileSample[]> {
    const root = `${this.#sys}/devices/system/edac/mc`;
    const controllers = (await this.#reader.list(root, 'edac', signal))
      .filter((name) => /^mc\d+$/.test(name))
      .slice(0, MAX_CONTROLLERS);
    this.#controllers = controllers.length;
    const ofControllers: FileSample[] = [];
    const ofDimms: FileSample[] = [];
    for (const mc of controllers) {
      const controller = mc.slice(2);
      ofControllers.push(...errorPair(`${root}/${mc}`, '', 'node_edac', { controller }));
      for (const dimm of await this.#reader.list(`${root}/${mc}`, 'edac', signal)) {
        if (!/^(dimm|rank)\d+$/.test(dimm) || ofDimms.length >= 2 * MAX_DIMMS) continue;
        const path = `${root}/${mc}/${dimm}`;
        const label = await this.#reader.text(`${path}/dimm_label`, 'edac', signal);
        ofDimms.push(...errorPair(path, 'dimm_', 'node_edac_dimm', { controller, dimm, label }));
      }
    }
    return [...ofControllers, ...ofDimms];
  }

  async #disks(signal: AbortSignal): Promise<FileSample[]> {
    const root = `${this.#sys}/block`;
    const found: FileSample[] = [];
    const devices = (await this.#reader.list(root, '', signal)).filter((name) => !NOT_A_DISK.test(name));
    for (const device of devices.slice(0, MAX_DISKS)) {
      const gate = `disk ${device}`;
      if (/^sd/.test(device))
        found.push(
          fileSample(
            `${root}/${device}/device/ioerr_cnt`,
            gate,
            canonicalSeries('node_disk_io_errors_total', { device }),
          ),
        );
      if (/^md/.test(device))
        found.push(
          fileSample(`${root}/${device}/md/degraded`, gate, canonicalSeries('node_md_degraded', { device })),
        );
    }
    return found;
  }

  async #ext4(signal: AbortSignal): Promise<FileSample[]> {
    const root = `${this.#sys}/fs/ext4`;
    const devices = (await this.#reader.list(root, '', signal)).filter((name) => name !== 'features');
    return devices
      .slice(0, MAX_DISKS)
      .map((device) =>
        fileSample(
          `${root}/${device}/errors_count`,
          '',
          canonicalSeries('node_ext4_errors_total', { device }),
        ),
      );
  }
}

function errorPair(
  folder: string,
  prefix: string,
  metric: string,
  labels: Record<string, string | undefined>,
): FileSample[] {
  return [
    fileSample(
      `${folder}/${prefix}ce_count`,
      'edac',
      canonicalSeries(`${metric}_correctable_errors_total`, labels),
    ),
    fileSample(
      `${folder}/${prefix}ue_count`,
      'edac',
      canonicalSeries(`${metric}_uncorrectable_errors_total`, labels),
    ),
  ];
}
