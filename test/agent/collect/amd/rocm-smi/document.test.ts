import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseRocmSmi } from '../../../../../agent/collect/amd/rocm-smi/document.ts';
import type { Reading } from '../../../../../agent/collect/collector.ts';
import { ROOT, sharedData } from '../../../../support/data.ts';
import { shown } from '../../nvidia/dcgm-exporter/scraped-node.ts';
import { expectNothingInvented, toldBy } from '../told.ts';

const CAPTURES = ['mi100_rocm571', 'rx6700xt_rocm430', 'rx6700xt_rocm612', 'vega-20-WKS-GL-XE'];
const folder = sharedData('samples/rocm-smi');

function read(bytes: Buffer): Reading | undefined {
  const document = parseRocmSmi(bytes);
  return document && toldBy('rocmSmi', document.gpus);
}

describe.skipIf(folder === undefined).each(CAPTURES)('%s', (name) => {
  const capture = folder ? readFileSync(`${folder}/${name}.json`) : Buffer.of();

  // Lost without it: a release of ROCm whose keys are others than those that we know.
  test('gives the expected series', () => {
    const file = join(ROOT, 'test', 'fixtures', 'amd', `rocm-smi_${name}.expected.json`);
    expect(shown(read(capture)!)).toEqual(JSON.parse(readFileSync(file, 'utf8')));
  });

  test('is read without a rejected value', () => {
    expect(parseRocmSmi(capture)!.malformed).toBe(0);
    expect(read(capture)!.rejected.get('malformed')).toBeUndefined();
  });

  test('damaged, it gives nothing that it did not say', () => {
    expectNothingInvented(capture, 7, read);
  });
});

test.each(['', 'WARNING: No AMD GPUs specified\n', '[]', '7'])('"%s" is no list of cards', (text) => {
  expect(parseRocmSmi(Buffer.from(text))).toBeUndefined();
});
