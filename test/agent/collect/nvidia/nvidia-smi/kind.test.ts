import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { Collector, Reading } from '../../../../../agent/collect/collector.ts';
import { kind } from '../../../../../agent/collect/nvidia/nvidia-smi/kind.ts';
import { nvidiaSmiSettings } from '../../../../../agent/collect/nvidia/nvidia-smi/settings.ts';
import { SmiSession } from '../../../../../agent/collect/nvidia/nvidia-smi/smi-session.ts';
import type { Surroundings } from '../../../../../agent/collect/source-kind.ts';
import { tempDir } from '../../../../support/temp.ts';
import { byGpu, ownOf } from '../by-gpu.ts';

const UUID = 'GPU-00000000-aaaa-bbbb-cccc-000000000000';
const HELP = '"index"\n\n"uuid" or "gpu_uuid"\n\n"temperature.gpu"\n\n"power.draw"\n';
const CSV = `index, uuid, temperature.gpu, power.draw [W]\n0, ${UUID}, 41, 70.50\n`;
const XML = `<?xml version="1.0" ?>\n<nvidia_smi_log><gpu id="x"><uuid>${UUID}</uuid><pci><replay_counter>3</replay_counter></pci></gpu></nvidia_smi_log>\n`;

/** A root with an nvidia-smi that answers as above, after what `query` does. */
function rootWith(directory: string, query = ''): string {
  mkdirSync(join(directory, 'usr', 'bin'), { recursive: true });
  for (const [name, text] of Object.entries({ help: HELP, csv: CSV, xml: XML }))
    writeFileSync(join(directory, name), text);
  const path = join(directory, 'usr', 'bin', 'nvidia-smi');
  writeFileSync(
    path,
    `#!/bin/sh
cd ${directory}
echo "$1" >> runs
case "$1" in
  --help-query-gpu) cat help ;;
  --query-gpu=*) ${query}
    cat csv ;;
  -q) cat xml ;;
esac
`,
  );
  chmodSync(path, 0o755);
  return directory;
}

function surroundings(root: string): Surroundings {
  return {
    node: 'n',
    intervalMs: 1000,
    host: { proc: '/proc', sys: join(root, 'sys'), dev: join(root, 'dev'), run: join(root, 'run'), root },
    directory: root,
    facts: { get: () => undefined, set: () => {} },
    clock: systemClock,
    random: () => 0.5,
    logger: silentLogger,
  };
}

const read = (collector: Collector | undefined): Promise<Reading> =>
  collector!.collect(AbortSignal.timeout(20_000));

async function disposeAll(collectors: readonly Collector[]): Promise<void> {
  for (const collector of collectors) await collector[Symbol.asyncDispose]();
}

describe('nvidia-smi as a process', () => {
  // Lost without it: a node without NVML and without an exporter has no GPUs.
  test('is found, asked what it has, and read by both collectors', async () => {
    await using directory = tempDir();
    const around = surroundings(rootWith(directory.path));
    const settings = v.parse(nvidiaSmiSettings, {});
    expect(await kind.detect(settings, around)).toEqual({
      found: true,
      what: join(directory.path, 'usr/bin/nvidia-smi'),
    });
    const collectors = kind.create(settings, around);
    const [short, long] = await Promise.all([read(collectors[0]), read(collectors[1])]);
    expect(collectors.map(({ name, intervalMs }) => [name, intervalMs])).toEqual([
      ['nvidia-smi', 1000],
      ['nvidia-smi-detail', 60_000],
    ]);
    expect(byGpu(short)[`0 ${UUID}`]).toMatchObject({
      gpu_power_watts: 70.5,
      'gpu_temperature_celsius{sensor=core}': 41,
    });
    expect(byGpu(long)[`0 ${UUID}`]).toMatchObject({ gpu_pcie_replay_total: 3 });
    expect(collectors[0]!.describe()).toBe('nvidia-smi query-gpu, 1 GPUs');
    await disposeAll(collectors);
  });

  test('is not found where it is not', async () => {
    await using directory = tempDir();
    const settings = v.parse(nvidiaSmiSettings, { command: join(directory.path, 'nvidia-smi') });
    expect(await kind.detect(settings, surroundings(directory.path))).toEqual({
      found: false,
      why: `no ${directory.path}/nvidia-smi that can be run`,
    });
  });

  // Lost without it: one lost GPU takes the readings of the other seven along.
  test('is read although it complains and fails, and its complaint names the lost GPU', async () => {
    await using directory = tempDir();
    const complaint = 'Unable to determine the device handle for GPU3: 0000:04:00.0: Unknown Error';
    const root = rootWith(directory.path, `echo "${complaint}" >&2; cat csv; exit 15`);
    const collectors = kind.create(v.parse(nvidiaSmiSettings, { details: false }), surroundings(root));
    const reading = await read(collectors[0]);
    expect(collectors).toHaveLength(1);
    expect(byGpu(reading)[`0 ${UUID}`]).toMatchObject({ gpu_power_watts: 70.5 });
    expect(reading.events.map(({ type, text }) => `${type} ${text}`)).toEqual([
      'gpu_lost GPU 0000:04:00.0 is lost: nvidia-smi says "Unknown Error"',
    ]);
    await disposeAll(collectors);
  });

  // Lost without it: a wedged driver holds the agent, or gathers a crowd of processes that cannot be killed.
  test('that hangs is given up at its timeout, and no second one is started beside it', async () => {
    await using directory = tempDir();
    const root = rootWith(directory.path, 'trap "" TERM; while [ ! -e go ]; do sleep 0.05; done');
    const collectors = kind.create(v.parse(nvidiaSmiSettings, { timeout: '2s' }), surroundings(root));
    const first = await read(collectors[0]);
    expect(ownOf(first).up).toBe(0);
    const again = await read(collectors[0]);
    const other = await read(collectors[1]);
    expect([ownOf(again).up, ownOf(other).up]).toEqual([0, 0]);
    const runs = readFileSync(join(root, 'runs'), 'utf8').trim().split('\n');
    expect(runs.map((run) => run.replace(/=.*/, ''))).toEqual(['--help-query-gpu', '--query-gpu']);
    writeFileSync(join(root, 'go'), '');
    await disposeAll(collectors);
  });
});

describe('a session of several collectors', () => {
  test('runs one at a time, goes on after a failure, and ends with its last user', async () => {
    let running = 0;
    let most = 0;
    let disposed = 0;
    const session = new SmiSession({
      run: async (_, [what]) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setImmediate(resolve));
        running--;
        if (what === 'fails') throw new Error('no');
        return Buffer.from(what!);
      },
      takeEvents: () => [],
      [Symbol.asyncDispose]: async () => {
        disposed++;
      },
    });
    session.enter();
    session.enter();
    const { signal } = new AbortController();
    const runs = await Promise.allSettled(['a', 'fails', 'b'].map((what) => session.run(signal, [what])));
    expect(runs.map((run) => (run.status === 'fulfilled' ? run.value.toString() : 'failed'))).toEqual([
      'a',
      'failed',
      'b',
    ]);
    expect(most).toBe(1);
    await session.leave();
    expect(disposed).toBe(0);
    await session.leave();
    expect(disposed).toBe(1);
  });

  // Lost without it: the short report waits behind a long one that hangs, past its own deadline.
  test('gives up waiting at the deadline', async () => {
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    const session = new SmiSession({
      run: () => promise,
      takeEvents: () => [],
      [Symbol.asyncDispose]: async () => {},
    });
    const first = session.run(new AbortController().signal, []);
    const controller = new AbortController();
    const second = session.run(controller.signal, []);
    controller.abort();
    await expect(second).rejects.toMatchObject({ code: 'unavailable' });
    resolve(Buffer.from('done'));
    expect((await first).toString()).toBe('done');
    expect((await session.run(new AbortController().signal, [])).toString()).toBe('done');
  });
});
