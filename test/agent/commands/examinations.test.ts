import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { collectGateFacts, collectOnce } from '../../../agent/commands/collect.ts';
import { doctor } from '../../../agent/commands/doctor.ts';
import { examineClock, examineDisk, examineDriver } from '../../../agent/commands/host-examination.ts';
import { examineCertificates, examineNetwork } from '../../../agent/commands/network-examination.ts';
import { passingSurroundings } from '../../../agent/commands/surroundings.ts';
import { loadAgentConfig } from '../../../agent/config.ts';
import { parsePage } from '../../support/exposition-parser.ts';
import { tempDir } from '../../support/temp.ts';
import { fakeTerminal } from '../control/fake-control.ts';

/** A host of files in a folder, and a configuration. */
async function stage(yaml: string, files: Readonly<Record<string, string>> = {}) {
  const dir = tempDir('doctor');
  const root = dir.path;
  for (const name of ['proc', 'sys', 'dev', 'run', 'data']) await mkdir(join(root, name));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), text);
  }
  const file = join(root, 'agent.yaml');
  await writeFile(file, `node: n\nmachine_id: m\ndata_dir: ${root}/data\n${yaml}`);
  const [proc, sys, dev, run] = ['proc', 'sys', 'dev', 'run'].map((name) => join(root, name)) as [
    string,
    string,
    string,
    string,
  ];
  return {
    root,
    file,
    host: { proc, sys, dev, run, root },
    config: () => loadAgentConfig(file, {}),
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

const gpuOnBus = (address: string, vendor: string) => ({
  [`sys/bus/pci/devices/${address}/vendor`]: `${vendor}\n`,
  [`sys/bus/pci/devices/${address}/class`]: '0x030200\n',
});

describe('doctor', () => {
  // Lost without it: people look for a fault of the agent where the driver is missing.
  test('GPUs on the bus without a driver are a failure, with one they are not', async () => {
    await using bare = await stage('', {
      ...gpuOnBus('0000:1b:00.0', '0x10de'),
      ...gpuOnBus('0000:43:00.0', '0x10de'),
    });
    expect(await examineDriver(bare.host)).toMatchObject([
      { state: 'fail', finding: '2 NVIDIA GPUs on the PCI bus, and the NVIDIA driver is not loaded' },
    ]);
    await using good = await stage('', {
      ...gpuOnBus('0000:1b:00.0', '0x10de'),
      'proc/driver/nvidia/version':
        'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n',
    });
    expect(await examineDriver(good.host)).toMatchObject([
      { state: 'ok', finding: '1 NVIDIA GPU on the PCI bus, driver 580.95.05' },
    ]);
    await using amd = await stage('', {
      ...gpuOnBus('0000:1b:00.0', '0x1002'),
      'sys/module/amdgpu/initstate': 'live\n',
    });
    expect(await examineDriver(amd.host)).toMatchObject([{ state: 'ok' }]);
    await using none = await stage('');
    expect(await examineDriver(none.host)).toMatchObject([{ state: 'none' }]);
  });

  test('the disk is written and left as it was; one that is not there is a failure', async () => {
    await using place = await stage('');
    const { root } = place;
    const findings = await examineDisk(join(root, 'data'), systemClock);
    expect(findings.map(({ what }) => what)).toEqual(['disk', 'disk']);
    expect(findings[1]!.finding).toMatch(/^a write and fsync of 4 KiB took [\d.]+ ms$/);
    expect(await readdir(join(root, 'data'))).toEqual([]);
    expect(await examineDisk(join(root, 'nowhere'), systemClock)).toMatchObject([{ state: 'fail' }]);
  });

  test('who keeps the clock', async () => {
    await using kept = await stage('', { 'run/systemd/timesync/synchronized': '' });
    expect(await examineClock(kept.host)).toMatchObject({
      state: 'ok',
      finding: 'systemd-timesyncd has set it',
    });
    await using loose = await stage('');
    expect((await examineClock(loose.host)).state).toBe('warn');
  });

  test('an aggregator that is not there, and a port where something else listens', async () => {
    const other = createServer((socket) => {
      socket.on('error', () => {});
      socket.end('220 mail\r\n');
    }).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    await using place = await stage(`aggregators: ["127.0.0.1:1", "127.0.0.1:${port}"]`);
    const { config } = place;
    const findings = await examineNetwork(await config(), 3_000);
    other.close();
    expect(findings.map(({ state }) => state)).toEqual(['fail', 'fail']);
    expect(findings[0]!.finding).toMatch(/^TCP: .*ECONNREFUSED/);
    expect(findings[1]!.finding).toMatch(/^stream: /);
  });

  test('a token file that everybody may read, and files that are not there', async () => {
    await using place = await stage('token_file: /nowhere/token\ntls: { ca: /nowhere/ca.pem }', {
      token: 'x',
    });
    const { root, config } = place;
    expect(await examineCertificates(await config(), Date.now())).toMatchObject([
      { what: 'certificate tls.ca', state: 'fail' },
      { what: 'token file', state: 'fail' },
    ]);
    const open = { ...(await config()), tls: undefined, token_file: join(root, 'token') };
    expect(await examineCertificates(open, Date.now())).toMatchObject([
      { state: 'warn', cure: `chmod o-r ${root}/token` },
    ]);
  });

  test('a table in 100 columns with what to do, and the code; the same as JSON', async () => {
    await using place = await stage('collectors: { simulated: {} }\naggregators: ["127.0.0.1:1"]');
    const { file, host, config, root } = place;
    const options = {
      config,
      configFile: file,
      socket: join(root, 's'),
      host,
      timeoutMs: 2_000,
      logger: silentLogger,
    };
    const terminal = fakeTerminal();
    expect(await doctor(terminal, { ...options, json: false })).toBe(1);
    expect(terminal.text).toMatch(/^CHECK +STATE +FINDING\n/);
    expect(terminal.text).toMatch(/aggregator 127\.0\.0\.1:1 +FAIL +TCP/);
    expect(terminal.text).toContain('-> is the aggregator running');
    expect(terminal.text).toContain('source simulated');
    const words = (line: string): boolean => line.trim().split(' ').length > 1;
    for (const line of terminal.text.split('\n').filter(words)) expect(line.length).toBeLessThanOrEqual(100);
    const json = fakeTerminal();
    await doctor(json, { ...options, json: true });
    expect(JSON.parse(json.text)).toMatchObject({
      ok: false,
      findings: expect.arrayContaining([expect.objectContaining({ what: 'config', state: 'ok' })]),
    });
  });

  test('a configuration that is wrong: every fault, and still what can be seen without one', async () => {
    await using place = await stage('log_level: loud\ncolectors: {}');
    const { file, host, config } = place;
    const terminal = fakeTerminal();
    expect(
      await doctor(terminal, {
        config,
        configFile: file,
        socket: '/nowhere/s',
        host,
        timeoutMs: 1_000,
        json: false,
        logger: silentLogger,
      }),
    ).toBe(1);
    const text = terminal.text.replaceAll(/\s+/g, ' ');
    for (const part of [
      'log_level: must be one of',
      'colectors: there is no such setting',
      'no GPU of NVIDIA or AMD',
    ])
      expect(text).toContain(part);
  });
});

describe('collect', () => {
  async function look(yaml: string, source?: string) {
    const place = await stage(yaml);
    const config = await place.config();
    const surroundings = await passingSurroundings(config, place.host, systemClock, silentLogger);
    return {
      config,
      surroundings,
      source,
      signal: new AbortController().signal,
      async [Symbol.asyncDispose]() {
        await surroundings[Symbol.asyncDispose]();
        await place[Symbol.asyncDispose]();
      },
    };
  }
  const SIMULATED = 'collectors: { simulated: { gpus: 2 } }';

  test.each(['text', 'openmetrics'] as const)('as %s: a page that a strict parser takes', async (format) => {
    await using options = await look(SIMULATED, 'simulated');
    const terminal = fakeTerminal();
    expect(await collectOnce(terminal, options, { format, all: false })).toBe(0);
    const page = parsePage(terminal.text, format);
    expect(page.get('gpu_power_watts')!.samples).toHaveLength(2);
    expect(page.get('gpu_power_watts')!.samples[0]!.labels).toMatchObject({
      cluster: 'default',
      node: 'n',
      gpu: '0',
    });
  });

  // Lost without it: people cannot tell a field that the card lacks from one that the agent forgot.
  test('with all, every series without a value is said with its reason', async () => {
    await using options = await look(SIMULATED, 'simulated_training');
    const terminal = fakeTerminal();
    await collectOnce(terminal, options, { format: 'text', all: true });
    expect(terminal.text).toContain('# absent training_loss{}: absent\n');
    const json = fakeTerminal();
    await collectOnce(json, options, { format: 'json', all: true });
    const [source] = JSON.parse(json.text) as [{ series: { name: string; value: unknown; state: string }[] }];
    expect(source.series.find(({ name }) => name === 'training_loss')).toMatchObject({
      value: null,
      state: 'absent',
    });
  });

  test('a source that cannot be read is 1 and says why; one that there is not is named', async () => {
    await using options = await look('collectors: { dcgm_exporter: { url: "http://127.0.0.1:1/metrics" } }');
    const terminal = fakeTerminal();
    expect(await collectOnce(terminal, options, { format: 'text', all: false })).toBe(1);
    expect(terminal.text).toMatch(/^# source \S+: .*FAILED: .*ECONNREFUSED/);
    await expect(
      collectOnce(terminal, { ...options, source: 'nope' }, { format: 'text', all: false }),
    ).rejects.toThrow(FleetError);
  });

  test('what the gate asks for is read here where no agent runs', async () => {
    await using options = await look(SIMULATED);
    const facts = await collectGateFacts(options);
    expect(facts.gpus.map(({ gpu, lost }) => [gpu, lost])).toEqual([
      ['0', false],
      ['1', false],
    ]);
    expect(facts.expected_gpus).toEqual({ count: 2, from: 'learnt' });
  });
});
