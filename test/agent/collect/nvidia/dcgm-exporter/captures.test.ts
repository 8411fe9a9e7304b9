import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { SlotState } from '#shared/model/slot-state.ts';
import { ExpositionParser } from '../../../../../agent/collect/prometheus/exposition.ts';
import { damagedInputs } from '../../../../support/damaged-inputs.ts';
import { sharedData } from '../../../../support/data.ts';
import { condensed, newValues, valuesOf } from '../by-gpu.ts';
import { fixture, ScrapedNode, shown } from './scraped-node.ts';

const CAPTURES = [
  'dcgm-exporter/8xh100_k8s-pods_a.metrics',
  'dcgm-exporter/8xh100_k8s-pods_b.metrics',
  'dcgm-exporter/readme-blank-sentinel.metrics',
  'dcgm-exporter/t4-a10g_datadog.metrics',
  'synthetic/blank-and-absurd-values.metrics',
  'synthetic/dcgm-exporter_mig-xid.metrics',
];
const folder = sharedData('samples');
const EXPECTED = JSON.parse(fixture('captures-expected.json')) as Record<string, unknown>;

// Lost without it: what real exporters print, as opposed to what we believe that they print.
describe.skipIf(folder === undefined)('a capture of a real exporter', () => {
  describe.each(CAPTURES)('%s', (name) => {
    const page = folder === undefined ? '' : readFileSync(`${folder}/${name}`, 'utf8');
    const { heads, values, malformed } = new ExpositionParser().parse(Buffer.from(page));

    test('is read without a malformed line', () => {
      const lines = page.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
      expect(malformed).toBe(0);
      expect(heads).toHaveLength(lines.length);
      // As a plain reader would: the last word of the line.
      lines.forEach((line, i) => {
        expect(values[i]).toEqual(Number(line.trim().split(' ').at(-1)));
      });
    });

    test.each(['canonical', 'dcgm'] as const)(
      'gives each sample a slot or a reason, naming %s',
      async (naming) => {
        await using node = await ScrapedNode.start({ naming });
        const { dictionary, states, rejected } = await node.scrape(page);
        const scraped = dictionary.series
          .map((series, slot) => ({ series, state: states[slot] }))
          .filter(
            ({ series }) => series.kind !== 'info' && !series.labels.some(([label]) => label === 'source'),
          );
        const present = scraped.filter(({ state }) => state === SlotState.Present).length;
        const refused = [...rejected.values()].reduce((sum, count) => sum + count, 0);
        expect(present + refused).toBe(heads.length);
      },
    );

    test('gives what is checked in', async () => {
      await using node = await ScrapedNode.start();
      expect(condensed(await node.scrape(page))).toEqual(EXPECTED[name]);
    });

    // Lost without it: values that nobody measured, from a page that was cut or garbled on its way.
    test('damaged gives no value that was not printed, and no failure', async () => {
      await using node = await ScrapedNode.start();
      // A label that differs on one line of a GPU stays on all of them: only the metric's name is compared.
      const nameOf = (key: string) => key.replace(/\{.*/, '');
      const known = valuesOf(await node.scrape(page), nameOf);
      for (const { what, bytes } of damagedInputs(Buffer.from(page), 20_260_102)) {
        const damaged = await node.scrape((_, response) => response.end(bytes));
        const fresh = newValues(known, damaged, nameOf);
        expect(fresh.length, `${what}: ${fresh.join(', ')}`).toBeLessThanOrEqual(
          what.startsWith('lines') ? 2 : 1,
        );
      }
    });

    test('keeps every label of it somewhere', async () => {
      await using node = await ScrapedNode.start();
      const kept = new Set(
        Object.keys(shown(await node.scrape(page))).flatMap((key) => key.match(/"[^"]*"/g) ?? []),
      );
      const given = heads.flatMap(({ labels }) => labels.map(([, value]) => JSON.stringify(value)));
      expect(given.filter((value) => !kept.has(value))).toEqual([]);
    });

    test('is written with dcgm naming as it was given', async () => {
      await using node = await ScrapedNode.start({ naming: 'dcgm' });
      const { dictionary } = await node.scrape(page);
      const written = dictionary.series.slice(3).map(({ name: metric, labels }) => [metric, labels]);
      expect(written).toEqual(heads.map((head) => [head.name, head.labels]));
    });
  });
});
