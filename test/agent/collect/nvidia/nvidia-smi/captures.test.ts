import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { smiFields } from '../../../../../agent/collect/nvidia/nvidia-smi/smi-fields.ts';
import { ExpositionParser } from '../../../../../agent/collect/prometheus/exposition.ts';
import { damagedInputs } from '../../../../support/damaged-inputs.ts';
import { ROOT, sharedData } from '../../../../support/data.ts';
import { byGpu, condensed, newValues, ownOf, valuesOf } from '../by-gpu.ts';
import { SmiNode } from './smi-node.ts';

const folder = sharedData('samples/nvidia-smi');
const goldens = sharedData('samples/nvidia_gpu_exporter');

function expectations(format: string): Record<string, unknown> {
  return JSON.parse(
    readFileSync(join(ROOT, 'test', 'fixtures', 'nvidia-smi', `${format}-expected.json`), 'utf8'),
  ) as Record<string, unknown>;
}

// Lost without it: what real drivers print, from a GTX 1070 Ti to a Blackwell, as opposed to what we believe.
describe.skipIf(folder === undefined).each(['csv', 'xml'] as const)('a real %s report', (format) => {
  const expected = Object.entries(folder === undefined ? {} : expectations(format));

  test.each(expected)('%s gives what is checked in', async (name, series) => {
    await using node = new SmiNode(format);
    const reading = await node.read(readFileSync(join(folder!, name)));
    expect(condensed(reading)).toEqual(series);
    expect([...reading.rejected.keys()]).toEqual([]);
    expect(ownOf(reading).up).toBe(1);
  });

  test.each(expected)('%s cut short gives nothing at all, and says so', async (name) => {
    const capture = readFileSync(join(folder!, name));
    for (const { what, bytes } of [...damagedInputs(capture, 1)].slice(0, 20)) {
      await using node = new SmiNode(format);
      const reading = await node.read(bytes);
      const values = Object.values(byGpu(reading)).flatMap((series) => Object.values(series));
      expect(values, what).toEqual([]);
      expect(ownOf(reading).up === 0 || reading.rejected.has('malformed'), what).toBe(true);
    }
  });

  // Lost without it: values that nobody measured, and GPUs that are paged for as lost since a line was garbled.
  test.each(expected)('%s damaged gives no value that was not printed, and loses no GPU', async (name) => {
    const capture = readFileSync(join(folder!, name));
    const uuids = [...new Set(capture.toString().match(/GPU-[0-9a-f-]{36}/g))];
    await using whole = new SmiNode(format);
    const known = valuesOf(await whole.read(capture));
    for (const [i, { what, bytes }] of [...damagedInputs(capture, 20_260_101)].entries()) {
      await using node = new SmiNode(format);
      // Only who was there can be lost; not each time, for it doubles the work.
      if (i % 4 === 0) await node.read(capture);
      const damaged = await node.read(bytes);
      // A UUID that became another UUID is another GPU: nothing tells them apart.
      const types = damaged.events.map(({ type }) => type);
      if (uuids.every((uuid) => bytes.includes(uuid))) expect(types, what).not.toContain('gpu_lost');
      const fresh = newValues(known, damaged);
      // One edit touches one token; two lines that change places, two.
      expect(fresh.length, `${what}: ${fresh.join(', ')}`).toBeLessThanOrEqual(
        what.startsWith('lines') ? 2 : 1,
      );
    }
  });
});

// Lost without it: a unit or a word that we read otherwise than the exporter that many people use.
describe.skipIf(folder === undefined || goldens === undefined)('nvidia_gpu_exporter agrees', () => {
  /** Fields whose golden value is in the same base unit under a name made from the property's. */
  const GOLDEN_UNITS: readonly [RegExp, string][] = [
    [/^clocks\.(current|max)\.(\w+)$/, '_clock_hz'],
    [/^memory\./, '_bytes'],
    [/^utilization\.|^fan\.speed/, '_ratio'],
    [/power.*(draw|limit)/, '_watts'],
    [/_counters\./, '_seconds'],
  ];

  test.each([
    [
      'query-gpu-csv/h100-80gb-hbm3_590.48.01_load.csv',
      'linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01__load.metrics',
      55,
    ],
    [
      'query-gpu-csv/rtx4080s_595.71.05_load.csv',
      'linux-x86_64__nvidia-geforce-rtx-4080-super__595.71.05__load.metrics',
      32,
    ],
  ])('on %s', async (name, golden, atLeast) => {
    await using node = new SmiNode('csv');
    const gpus = byGpu(await node.read(readFileSync(join(folder!, name))));
    const [series] = Object.values(gpus);
    const { heads, values } = new ExpositionParser().parse(readFileSync(join(goldens!, golden)));
    const theirs = new Map(heads.map((head, i) => [head.name, values[i]!]));
    let compared = 0;
    for (const { metric, labels, csv } of smiFields) {
      const key = Object.entries(labels)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([label, value]) => `${label}=${value}`)
        .join();
      const ours = series![key === '' ? metric.name : `${metric.name}{${key}}`];
      const property = csv.find((one) => theirs.has(goldenName(one)));
      if (property === undefined)
        expect(ours === undefined || typeof ours === 'string', metric.name).toBe(true);
      else {
        expect(ours, `${metric.name} from ${property}`).toBeCloseTo(theirs.get(goldenName(property))!, 9);
        compared++;
      }
    }
    expect(compared).toBeGreaterThanOrEqual(atLeast);

    function goldenName(property: string): string {
      const unit = GOLDEN_UNITS.find(([pattern]) => pattern.test(property))?.[1] ?? '';
      const snake = property
        .replaceAll('.', '_')
        .replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      return `nvidia_smi_${snake}${unit}`;
    }
  });
});
