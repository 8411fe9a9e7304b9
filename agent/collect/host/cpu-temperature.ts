import { basename, dirname } from 'node:path';
import { canonicalSeries } from '../canonical-series.ts';
import { FileColumn, type FileSample, fileSample } from '../host-files/file-column.ts';
import type { FileReader } from '../host-files/file-reader.ts';
import type { Part } from '../host-files/parts-collector.ts';
import { SampleSet } from '../host-files/sample-set.ts';
import type { HostPaths } from '../source-kind.ts';

/** Intel, AMD (kernel's and out of tree), ARM. Others, such as nvme, ask a device that may not answer: left out. */
const CPU_CHIPS = new Set(['coretemp', 'k10temp', 'zenpower', 'cpu_thermal', 'soc_thermal']);
/** Of a package, not of each of its hundred cores: coretemp's `Package id 0`, k10temp's `Tctl` and `Tdie`. */
const PACKAGE_SENSOR = /^(Package id \d+|Tctl|Tdie)$/;
const MAX_SENSORS = 32;
const MAX_ZONES = 16;
/** Sensors do not come and go: looked for at the first reads, for drivers load late, and then never again. */
const LOOKS = 3;
const MILLIDEGREES = 1 / 1000;

/** Temperatures of CPU packages from hwmon; where it has none, the thermal zones. Millidegrees: `45000`. */
export class CpuTemperaturePart implements Part {
  readonly samples = new SampleSet();
  readonly #reader: FileReader;
  readonly #sys: string;
  readonly #column: FileColumn;
  #looks = 0;

  constructor(reader: FileReader, { sys }: HostPaths) {
    this.#reader = reader;
    this.#sys = sys;
    this.#column = new FileColumn(reader);
  }

  describe(): string {
    const count = this.samples.series.length;
    return count > 0 ? `${count} CPU temperatures` : '';
  }

  async sample(signal: AbortSignal): Promise<void> {
    if (this.samples.series.length === 0 && this.#looks < LOOKS) {
      this.#looks++;
      const sensors = await this.#sensors(signal);
      const found = sensors.length > 0 ? sensors : await this.#zones(signal);
      if (found.length > 0) this.samples.plan(this.#column.use(found));
    }
    this.samples.clear();
    await this.#column.read(this.samples, signal);
  }

  async #sensors(signal: AbortSignal): Promise<FileSample[]> {
    const root = `${this.#sys}/class/hwmon`;
    const found: FileSample[] = [];
    for (const folder of await this.#reader.list(root, root, signal)) {
      const path = `${root}/${folder}`;
      const chip = await this.#reader.text(`${path}/name`, path, signal);
      if (chip === undefined || !CPU_CHIPS.has(chip)) continue;
      found.push(...(await this.#sensorsOf(path, chip, signal)));
    }
    return found.slice(0, MAX_SENSORS);
  }

  async #sensorsOf(path: string, name: string, signal: AbortSignal): Promise<FileSample[]> {
    const device = await this.#reader.target(`${path}/device`, path, signal);
    const chip = device === undefined ? name : chipOf(device);
    const found: FileSample[] = [];
    for (const input of await this.#reader.list(path, path, signal)) {
      const sensor = /^(temp\d+)_input$/.exec(input)?.[1];
      if (sensor === undefined) continue;
      const label = await this.#reader.text(`${path}/${sensor}_label`, path, signal);
      if (label !== undefined && !PACKAGE_SENSOR.test(label)) continue;
      const series = canonicalSeries('node_hwmon_temp_celsius', { chip, sensor, label });
      found.push(fileSample(`${path}/${input}`, path, series, { times: MILLIDEGREES }));
    }
    return found;
  }

  async #zones(signal: AbortSignal): Promise<FileSample[]> {
    const root = `${this.#sys}/class/thermal`;
    const found: FileSample[] = [];
    for (const folder of await this.#reader.list(root, root, signal)) {
      const zone = /^thermal_zone(\d+)$/.exec(folder)?.[1];
      if (zone === undefined || found.length >= MAX_ZONES) continue;
      const path = `${root}/${folder}`;
      const type = await this.#reader.text(`${path}/type`, path, signal);
      const series = canonicalSeries('node_thermal_zone_temp', { zone, type });
      found.push(fileSample(`${path}/temp`, path, series, { times: MILLIDEGREES }));
    }
    return found;
  }
}

/** As node_exporter names a chip: bus and device, `platform_coretemp_0`. */
function chipOf(device: string): string {
  const clean = (text: string): string => text.toLowerCase().replace(/[^a-z0-9:]+/g, '_');
  return `${clean(basename(dirname(device)))}_${clean(basename(device))}`;
}
