import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  listGpus,
  parseAmdSmi,
  type SmiDocument,
} from '../../../../../agent/collect/amd/amd-smi/document.ts';
import type { Json } from '../../../../../agent/collect/amd/json-value.ts';
import type { Reading } from '../../../../../agent/collect/collector.ts';
import { ROOT, sharedData } from '../../../../support/data.ts';
import { shown } from '../../nvidia/dcgm-exporter/scraped-node.ts';
import { expectNothingInvented, toldBy } from '../told.ts';

const folder = sharedData('samples');
const NO_STATICS: SmiDocument = { gpus: new Map(), malformed: 0 };

const expected = (name: string): unknown =>
  JSON.parse(readFileSync(join(ROOT, 'test', 'fixtures', 'amd', `${name}.expected.json`), 'utf8'));

function read(bytes: Buffer, statics = NO_STATICS): Reading | undefined {
  const document = parseAmdSmi(bytes);
  return document && toldBy('amdSmi', listGpus(document, statics));
}

describe.skipIf(folder === undefined)('the shape of ROCm 7', () => {
  const capture = folder ? readFileSync(`${folder}/synthetic/amd-smi_metric_rocm7-shape.json`) : Buffer.of();

  // Lost without it: what amd-smi says of a busy MI300X; and a GPU whose every block is N/A, shown as zeros.
  test('gives the expected series', () => {
    expect(shown(read(capture)!)).toEqual(expected('amd-smi_metric_rocm7-shape'));
  });

  test('means the same as the bare array of ROCm 6', () => {
    const { gpu_data } = JSON.parse(capture.toString());
    const bare = Buffer.from(`WARNING: a GPU is in a low-power state\n${JSON.stringify(gpu_data)}`);
    expect(shown(read(bare)!)).toEqual(shown(read(capture)!));
  });

  test('damaged, it gives nothing that it did not say', () => {
    expectNothingInvented(capture, 4, read);
  });
});

// Lost without it: paths that look right and that the tool does not print. Captures of the tool are text; its JSON has
// the same names in lower case.
describe.skipIf(folder === undefined)('the names that the tool prints', () => {
  const text = (name: string): string => (folder ? readFileSync(`${folder}/amd-smi/${name}`, 'utf8') : '');

  test('static: names, serial numbers and limits', () => {
    const statics = documentOf(text('amd-smi_static_4gpu.txt'));
    const metric = {
      gpus: new Map([...statics.gpus.keys()].map((gpu): [string, Json] => [gpu, {}])),
      malformed: 0,
    };
    expect(shown(toldBy('amdSmi', listGpus(metric, statics)))).toEqual(expected('amd-smi_static_4gpu'));
  });

  test.each(['--throttle', '--usage', '--pcie', '--power', '--clock', '--ecc --ecc-blocks', '--ecc-block'])(
    'metric %s',
    (option) => {
      const blocks = text('amd-smi_cli-output-samples_changelog.txt').split(/^\$ /m);
      const block = blocks.find((one) => one.startsWith(`amd-smi metric ${option}\n`))!;
      const name = `amd-smi_metric${option.replaceAll(/[ -]+/g, '-')}`;
      expect(shown(toldBy('amdSmi', listGpus(documentOf(block), NO_STATICS)))).toEqual(expected(name));
    },
  );
});

interface Level {
  readonly indent: number;
  readonly name: string;
  readonly into: Record<string, Json>;
}

/** `GPU: 0`, then `NAME: value` or `NAME:` and what is indented below it. JSON keeps only the ECC blocks' capitals. */
function documentOf(text: string): SmiDocument {
  const gpus = new Map<string, Json>();
  let levels: Level[] = [];
  for (const line of text.split('\n')) {
    const [, indent, name = '', value = ''] = /^( *)([A-Z][\w ]*): ?(.*)$/.exec(line) ?? [];
    if (indent === undefined) continue;
    const level = { indent: indent.length, name, into: {} };
    if (indent === '') {
      levels = [];
      if (name === 'GPU' && !gpus.has(value)) gpus.set(value, level.into);
    }
    while (levels.length > 0 && levels.at(-1)!.indent >= indent.length) levels.pop();
    const above = levels.at(-1);
    if (above) {
      const key = above.name === 'ECC_BLOCKS' ? name : name.toLowerCase();
      above.into[key] = value === '' ? level.into : value;
    }
    levels.push(level);
  }
  return { gpus, malformed: 0 };
}

test.each([
  ['nothing', ''],
  ['a message', 'ERROR:root:Unable to get devices, driver not initialized (amdgpu not found in modules)\n'],
  ['a number', '7'],
  ['an object of something else', '{"error": "no GPU"}'],
])('%s is not a list of GPUs', (_, text) => {
  expect(parseAmdSmi(Buffer.from(text))).toBeUndefined();
});

test('entries that are no GPU are counted, and the others kept', () => {
  const document = parseAmdSmi(Buffer.from('[{"gpu": 0}, {"gpu": -1}, 3, {"cpu": 0}, {"gpu": 0}]'))!;
  expect([...document.gpus.keys()]).toEqual(['0']);
  expect(document.malformed).toBe(4);
});

// Lost without it: 4294967295 errors on a dashboard, and a unit that nobody knows taken for the usual one.
test('sentinels are blank, and unknown units are counted', () => {
  const reading = read(
    Buffer.from(
      JSON.stringify([
        {
          gpu: 0,
          clock: { gfx_0: { clk: { value: 65_535, unit: 'MHz' } } },
          ecc: { total_correctable_count: 4_294_967_295, total_uncorrectable_count: 65_535 },
          power: { socket_power: { value: 5, unit: 'furlong' } },
          temperature: { hotspot: { value: 65_535, unit: 'C' }, mem: [1] },
        },
      ]),
    ),
  )!;
  const labels = 'gpu="0",model="AMD GPU"';
  expect(shown(reading)).toMatchObject({
    [`gpu_clock_hertz{domain="sm",${labels}}`]: 'Blank',
    [`gpu_ecc_errors_total{${labels},scope="volatile",type="corrected"}`]: 'Blank',
    [`gpu_ecc_errors_total{${labels},scope="volatile",type="uncorrected"}`]: 65_535,
    [`gpu_power_watts{${labels}}`]: 'Absent',
    [`gpu_temperature_celsius{${labels},sensor="hotspot"}`]: 'Blank',
    [`gpu_temperature_celsius{${labels},sensor="memory"}`]: 'Absent',
  });
  expect(reading.rejected).toEqual(
    new Map([
      ['malformed', 2],
      ['blank', 3],
    ]),
  );
});
