import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { SlotState } from '#shared/model/slot-state.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { sharedData } from '../../../support/data.ts';
import { PageServer } from './page-server.ts';
import { collectorOf, own, scrape } from './target-under-test.ts';

const CAPTURES: readonly (readonly [name: string, samples: number])[] = [
  ['dcgm-exporter/8xh100_k8s-pods_a.metrics', 30],
  ['nvidia_gpu_exporter/linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01__load.metrics', 138],
];
const folder = sharedData('samples');

/** The last word of each line that is no comment. */
function tokensOf(page: string): string[] {
  const lines = page.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  return lines.map(
    (line) =>
      line
        .trim()
        .split(/[ \t]+/)
        .at(-1)!,
  );
}

// Lost without it: GPU exporters that this product has no source for, or no naming.
describe.skipIf(folder === undefined).each(CAPTURES)('a capture of %s', (name, samples) => {
  const capture = folder === undefined ? Buffer.alloc(0) : readFileSync(`${folder}/${name}`);

  test('passes through whole', async () => {
    await using server = await PageServer.listen();
    server.page = capture;
    await using collector = collectorOf({ url: server.url });
    const reading = await scrape(collector);
    expect(own(reading, 'up')).toBe(1);
    expect(own(reading, 'scrape_samples_scraped')).toBe(samples);
    expect(reading.rejected).toEqual(new Map());
    const present = reading.states.reduce((sum, state) => sum + Number(state === SlotState.Present), 0);
    expect(present).toBe(samples + 3);
  });

  test('damaged gives only values that its page has', async () => {
    await using server = await PageServer.listen();
    await using collector = collectorOf({ url: server.url });
    for (const { bytes, what } of damagedInputs(capture, 17)) {
      server.page = bytes;
      const reading = await scrape(collector);
      const words = bytes.toString('utf8').split(/[\s}]+/);
      const printed = new Set(words.map((word) => Number(word.replace('Inf', 'Infinity')) + 0));
      for (const [slot, { name: metric, labels }] of reading.dictionary.series.entries()) {
        if (reading.states[slot] !== SlotState.Present || labels.some(([label]) => label === 'source'))
          continue;
        if (!printed.has(reading.values[slot]!)) expect.fail(`${what}: ${metric} ${reading.values[slot]}`);
      }
    }
  });

  test('has the samples that a plain reader counts', () => {
    expect(tokensOf(capture.toString('utf8'))).toHaveLength(samples);
  });
});
