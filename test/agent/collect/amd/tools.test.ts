import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { createAmdSmiCollector } from '../../../../agent/collect/amd/amd-smi/collector.ts';
import { createRocmSmiCollector } from '../../../../agent/collect/amd/rocm-smi/collector.ts';
import type { Collector } from '../../../../agent/collect/collector.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { shown } from '../nvidia/dcgm-exporter/scraped-node.ts';

let dir: TempDir;
beforeEach(() => {
  dir = tempDir('amd-tools');
});
afterEach(async () => {
  await dir[Symbol.asyncDispose]();
});

/** A tool of ours: prints <first argument>.json, and counts its runs. */
async function fakeTool(): Promise<string> {
  const path = join(dir.path, 'tool');
  const text = `#!/bin/sh\necho "$1" >> ${dir.path}/runs\nexec cat ${dir.path}/"$1".json\n`;
  await writeFile(path, text);
  await chmod(path, 0o755);
  return path;
}

const says = (command: string, json: unknown): Promise<void> =>
  writeFile(join(dir.path, `${command}.json`), typeof json === 'string' ? json : JSON.stringify(json));

async function options() {
  return {
    command: await fakeTool(),
    intervalMs: 1000,
    maxBytes: 4096,
    proc: '/proc',
    clock: systemClock,
    logger: silentLogger,
  };
}

const collect = (collector: Collector) => collector.collect(AbortSignal.timeout(10_000));
const watts = (gpu: number, value: number) => ({ gpu, power: { socket_power: { value, unit: 'W' } } });
const asic = (gpu: number, serial: string) => ({ gpu, asic: { asic_serial: serial, market_name: 'MI300X' } });
const power = (gpu: number) =>
  `gpu_power_watts{gpu="${gpu}",model="MI300X",uuid="000000000000000${gpu + 1}"}`;

describe('amd-smi', () => {
  // Lost without it: series of the tool that do not meet those of the driver's files.
  test('the serial number of static names the GPUs of metric, and is asked for once', async () => {
    await using collector = createAmdSmiCollector(await options());
    await says('static', { gpu_data: [asic(0, '0x1'), asic(1, '0x2')] });
    await says('metric', { gpu_data: [watts(0, 500), watts(1, 400)] });
    expect(shown(await collect(collector))).toMatchObject({ [power(0)]: 500, [power(1)]: 400 });
    await says('metric', [watts(0, 510), watts(1, 410)]);
    expect(shown(await collect(collector))).toMatchObject({ [power(0)]: 510, [power(1)]: 410 });
    expect(await readFile(join(dir.path, 'runs'), 'utf8')).toBe('metric\nstatic\nmetric\n');
  });

  test('a GPU that is no longer listed is lost at once', async () => {
    await using collector = createAmdSmiCollector(await options());
    await says('static', [asic(0, '0x1'), asic(1, '0x2')]);
    await says('metric', [watts(0, 500), watts(1, 400)]);
    await collect(collector);
    await says('metric', [watts(0, 500)]);
    const reading = await collect(collector);
    expect(reading.events).toMatchObject([{ type: 'gpu_lost', gpu: '1', gpuUuid: '0000000000000002' }]);
    expect(shown(reading)).toMatchObject({ [power(0)]: 500, [power(1)]: 'GpuLost' });
  });

  // Lost without it: a tool that broke over an upgrade, and nobody told.
  test.each([
    ['prints no JSON', 'Traceback (most recent call last)', 'not a list of GPUs'],
    ['prints too much', `[${' '.repeat(8192)}]`, 'more than 4096 bytes'],
  ])('a tool that %s is down, with a reason', async (_, output, why) => {
    await using collector = createAmdSmiCollector(await options());
    await says('static', [asic(0, '0x1')]);
    await says('metric', [watts(0, 500)]);
    await collect(collector);
    await says('metric', output);
    const reading = await collect(collector);
    expect(shown(reading, { own: true })).toMatchObject({ 'up{source="amd-smi"}': 0, [power(0)]: 'Absent' });
    expect(reading).toMatchObject({ problem: expect.stringContaining(why) });
  });

  test('without static no series is made that would have to be renamed', async () => {
    await using collector = createAmdSmiCollector(await options());
    await says('metric', [watts(0, 500)]);
    expect(shown(await collect(collector))).toEqual({});
  });
});

describe('rocm-smi', () => {
  test('is read, and a failure is on record', async () => {
    await using collector = createRocmSmiCollector(await options());
    await says('--showid', { card0: { 'GPU use (%)': '97' }, system: {} });
    const key = 'gpu_utilization_ratio{gpu="0",model="AMD GPU",task="general"}';
    expect(shown(await collect(collector))[key]).toBe(0.97);
    await says('--showid', '{"card0": {');
    const reading = await collect(collector);
    expect(shown(reading)[key]).toBe('Absent');
    expect(reading.rejected.get('malformed')).toBe(1);
  });
});
