import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { AssetBook } from '../../aggregator/enrich/asset-book.ts';
import { tickContext } from '../../aggregator/tick-context.ts';
import { tempDir } from '../support/temp.ts';
import { SOURCE } from './alerts/block-of.ts';

// Lost without it: a consumer of enriched ticks cannot tell which rack is hot, or whose warranty ends.
it('enriched ticks say what the inventory knows of a node and of a GPU, and nothing where it knows nothing', async () => {
  await using temp = tempDir('assets');
  const file = join(temp.path, 'assets.yaml');
  await writeFile(
    file,
    `nodes:
  - { node: gpu-07.rack3, rack: r3, pdu: [a, b], cooling_zone: z1 }
gpus:
  - { uuid: GPU-3, serial: '1654', warranty_end: '2027-05-01', repairs: [{ date: '2026-01-02', what: reseated }] }
`,
  );
  const context = tickContext(await AssetBook.open(file));
  expect(context(SOURCE, '', '')).toEqual({ rack: 'r3', pdu: 'a,b', cooling_zone: 'z1' });
  expect(context(SOURCE, '3', 'GPU-3')).toEqual({
    serial: '1654',
    warranty_end: '2027-05-01',
    repairs: '1',
    last_repair: '2026-01-02',
  });
  expect(context(SOURCE, '4', 'GPU-4')).toBeUndefined();
  expect(context({ ...SOURCE, node: 'other' }, '', '')).toBeUndefined();
});
