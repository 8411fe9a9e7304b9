import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { kind } from '../../../../../agent/collect/nvidia/nvml/kind.ts';
import { nvmlSettings } from '../../../../../agent/collect/nvidia/nvml/settings.ts';
import type { Surroundings } from '../../../../../agent/collect/source-kind.ts';
import { tempDir } from '../../../../support/temp.ts';
import { memoryFacts } from './nvml-node.ts';

const LIBRARY = 'usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1';
const VERSION = 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.105.08  Wed Oct 29 23:15:11 UTC 2025\n';
const BOARD = {
  'sys/bus/pci/devices/0000:91:00.0/vendor': '0x10de\n',
  'sys/bus/pci/devices/0000:91:00.0/class': '0x030200\n',
};

function surroundings(path: string, files: Readonly<Record<string, string>>): Surroundings {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), text);
  }
  const at = (name: string): string => join(path, name);
  return {
    node: 'n',
    intervalMs: 1000,
    host: { proc: at('proc'), sys: at('sys'), dev: at('dev'), run: at('run'), root: path },
    directory: path,
    facts: memoryFacts(),
    clock: systemClock,
    random: () => 0.5,
    logger: silentLogger,
  };
}

// Lost without it: a node with GPUs is not seen to have them, or every container with CUDA libraries is.
test.each([
  [{}, { found: false, why: 'no libnvidia-ml.so.1' }],
  [{ [LIBRARY]: '' }, { found: false }],
  [
    { [LIBRARY]: '', 'proc/driver/nvidia/version': VERSION },
    { found: true, what: /driver 580\.105\.08$/ },
  ],
  [
    { [LIBRARY]: '', 'dev/nvidiactl': '' },
    { found: true, what: /driver unknown$/ },
  ],
  [
    { [LIBRARY]: '', ...BOARD },
    { found: true, what: /driver not loaded$/, hint: /modprobe/ },
  ],
])('%j is detected as %o', async (files, expected) => {
  await using folder = tempDir('nvml-detect');
  const detection = await kind.detect(v.parse(nvmlSettings, {}), surroundings(folder.path, files));
  for (const [name, value] of Object.entries(expected)) {
    const told = detection[name as keyof typeof detection];
    if (value instanceof RegExp) expect(told).toMatch(value);
    else expect(told).toBe(value);
  }
});

test('makes a collector for what moves and one for what does not, which hold the device', async () => {
  await using folder = tempDir('nvml-kind');
  const settings = v.parse(nvmlSettings, { interval: '500ms', slow_interval: '1m' });
  const collectors = kind.create(settings, surroundings(folder.path, {}));
  expect(collectors.map(({ name, intervalMs, holdsDevice }) => ({ name, intervalMs, holdsDevice }))).toEqual([
    { name: 'nvml', intervalMs: 500, holdsDevice: true },
    { name: 'nvml-slow', intervalMs: 60_000, holdsDevice: true },
  ]);
  for (const collector of collectors) await collector[Symbol.asyncDispose]();
  expect(v.safeParse(nvmlSettings, { slow_interval: '1ms' }).success).toBe(false);
});
