import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { kind as amdSmi } from '../../../../agent/collect/amd/amd-smi/kind.ts';
import { kind as exporter } from '../../../../agent/collect/amd/device-metrics-exporter/kind.ts';
import { kind as rocmSmi } from '../../../../agent/collect/amd/rocm-smi/kind.ts';
import { kind as sysfs } from '../../../../agent/collect/amd/sysfs/kind.ts';
import { defaultSettings } from '../../../../agent/collect/collector-settings.ts';
import type { Surroundings } from '../../../../agent/collect/source-kind.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { PageServer } from '../prometheus/page-server.ts';
import { RememberedFacts } from './sysfs/amd-node.ts';
import { textCard, writeCard } from './sysfs/sysfs-tree.ts';

let dir: TempDir;
let node: Surroundings;
beforeEach(() => {
  dir = tempDir('amd-kinds');
  const host = { proc: '/proc', sys: join(dir.path, 'sys'), dev: '/dev', run: '/run', root: dir.path };
  node = {
    node: 'a',
    intervalMs: 1000,
    host,
    directory: dir.path,
    facts: new RememberedFacts(),
    clock: systemClock,
    random: () => 0,
    logger: silentLogger,
  };
});
afterEach(async () => {
  await dir[Symbol.asyncDispose]();
});

async function install(path: string): Promise<void> {
  const file = join(dir.path, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, '');
  await chmod(file, 0o755);
}

const found = async () => ({
  sysfs: (await sysfs.detect(defaultSettings('amd_sysfs'), node)).found,
  amdSmi: (await amdSmi.detect(defaultSettings('amd_smi'), node)).found,
  rocmSmi: (await rocmSmi.detect(defaultSettings('rocm_smi'), node)).found,
});

// Lost without it: a node that runs a Python program every half minute for what files say, or one that has no source.
test('the driver is preferred to amd-smi, and that to rocm-smi', async () => {
  expect(await found()).toEqual({ sysfs: false, amdSmi: false, rocmSmi: false });
  await install('usr/bin/rocm-smi');
  expect(await found()).toEqual({ sysfs: false, amdSmi: false, rocmSmi: true });
  await install('opt/rocm/bin/amd-smi');
  expect(await found()).toEqual({ sysfs: false, amdSmi: true, rocmSmi: false });
  await writeCard(node.host.sys, 'card0', textCard({ pci: '0000:0c:00.0', uniqueId: '1' }));
  expect(await found()).toEqual({ sysfs: true, amdSmi: false, rocmSmi: false });
});

test('a tool that is not preferred says how to have it', async () => {
  await install('usr/bin/amd-smi');
  await writeCard(node.host.sys, 'card0', textCard({ pci: '0000:0c:00.0', uniqueId: '1' }));
  expect(await amdSmi.detect(defaultSettings('amd_smi'), node)).toMatchObject({
    hint: expect.stringContaining('amd_smi'),
  });
});

// Lost without it: any page on port 5000 taken for AMD's exporter.
test('only a page with its metrics is the exporter', async () => {
  await using server = await PageServer.listen();
  const settings = { ...defaultSettings('device_metrics_exporter'), url: server.url };
  server.page = 'up 1\n';
  expect((await exporter.detect(settings, node)).found).toBe(false);
  server.page = 'gpu_nodes_total{hostname="a"} 8\n';
  expect((await exporter.detect(settings, node)).found).toBe(true);
});

test('error counts have an interval of their own, never shorter than the rest', async () => {
  const of = (settings: object) =>
    sysfs
      .create({ ...defaultSettings('amd_sysfs'), ...settings }, node)
      .map((one) => [one.name, one.intervalMs]);
  expect(of({})).toEqual([
    ['amd-sysfs', 1000],
    ['amd-sysfs-ras', 10_000],
  ]);
  expect(of({ interval: 60_000 })).toEqual([
    ['amd-sysfs', 60_000],
    ['amd-sysfs-ras', 60_000],
  ]);
});
