import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { StoreWatch } from '../../../aggregator/store/store-watch.ts';
import { startTextServer } from '../../support/text-server.ts';

// Lost without it: a virtual machine with the store is paused for a minute and then killed. What it had accepted
// just before the pause was never on its disk, and one reading after the pause would have called it durable.
test('only a store that was seen at work for 30 s proves anything durable; a pause begins the 30 s anew', async () => {
  await using page = await startTextServer('vm_app_start_timestamp 1780000000\n');
  let now = 1_000;
  await using watch = new StoreWatch({
    processes: [page.url],
    host: new URL(page.url).host,
    access: undefined,
    clock: { now: () => now, monotonic: () => now },
    logger: silentLogger,
    onChange: () => {},
    onBack: () => {},
    everyMs: 1_000_000,
  });
  const readAt = async (at: number): Promise<number> => {
    now = at;
    return (await watch.read())!.provenAt;
  };
  for (let at = 1_000; at < 31_000; at += 5_000) expect(await readAt(at)).toBe(Number.NEGATIVE_INFINITY);
  expect(await readAt(31_000)).toBe(31_000);
  expect(await readAt(36_000)).toBe(36_000);
  // Nobody answered for a minute.
  for (let at = 96_000; at < 126_000; at += 5_000) expect(await readAt(at)).toBe(36_000);
  expect(await readAt(126_000)).toBe(126_000);
});
