import {
  type Parser,
  parseBadPages,
  parseLevels,
  parseMetrics,
  parseNumber,
  parseRasCounts,
} from './attribute-text.ts';
import { MAX_GPU_METRICS_BYTES } from './gpu-metrics.ts';

/** Where a key of the catalogue is to be found: a file below the device's folder, and an item in it. */
export interface Place {
  /** Relative. Undefined: this board has no such sensor. */
  readonly file: string | undefined;
  readonly item: string;
  readonly parser: Parser;
  readonly maxBytes: number;
  /** It changes only by somebody's hand, or never: read once a minute. */
  readonly slow: boolean;
}

/** The longest is a list of 16 clock levels, 250 bytes. */
const TEXT_BYTES = 1024;
/** ras/gpu_vram_bad_pages is a binary attribute: 28 bytes a page; boards are replaced at some hundred pages. */
const BAD_PAGES_BYTES = 64 * 1024;
const SLOW = /_(crit|emergency|cap|cap_\w+)$|^max_link_|^mem_info_vram_total$|\^$/;

/**
 * `sensors` are the folder of the hwmon device and what its labels name: `temp(junction)` is `temp2`. Undefined where
 * the board has none.
 */
export function placeOf(key: string, sensors: Sensors | undefined): Place {
  const slow = SLOW.test(key);
  const text = (file: string | undefined, item: string, parser: Parser, maxBytes = TEXT_BYTES): Place => ({
    file,
    item,
    parser,
    maxBytes,
    slow,
  });
  const [file, item = ''] = key.split(':');
  if (file === 'gpu_metrics') return text(file, item, parseMetrics, MAX_GPU_METRICS_BYTES);
  if (file === 'ras/gpu_vram_bad_pages') return text(file, item, parseBadPages, BAD_PAGES_BYTES);
  if (file!.startsWith('ras/')) return text(file, item, parseRasCounts);
  if (file!.startsWith('pp_dpm_')) return text(file!.slice(0, -1), file!.at(-1)!, parseLevels);
  const sensor = /^hwmon\/(\w+?)(?:\((\w+)\))?(_\w+)?$/.exec(file!);
  if (!sensor) return text(file, '', parseNumber);
  const [, type = '', label, attribute = ''] = sensor;
  const name = label === undefined ? type : sensors?.byLabel.get(`${type}(${label})`);
  const path = sensors && name !== undefined ? `${sensors.folder}/${name}${attribute}` : undefined;
  return text(path, '', parseNumber);
}

export interface Sensors {
  /** Relative to the device's folder: hwmon/hwmon3. */
  readonly folder: string;
  readonly byLabel: ReadonlyMap<string, string>;
}
