import { createServer } from 'node:http';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { createDcgmExporterCollector } from '../../../../agent/collect/nvidia/dcgm-exporter/collector.ts';
import { DcgmPage } from '../../../../agent/collect/simulated/dcgm-page.ts';
import { kind } from '../../../../agent/collect/simulated/kind.ts';
import { servePageFleet } from '../../../../agent/collect/simulated/page-fleet.ts';
import { PageServer, servePage } from '../../../../agent/collect/simulated/page-server.ts';
import { simulatedSettings } from '../../../../agent/collect/simulated/settings.ts';
import type { Surroundings } from '../../../../agent/collect/source-kind.ts';
import { silentLogger } from '../../../../shared/logging/logger.ts';
import { systemClock } from '../../../../shared/model/clock.ts';
import { labelOf } from '../../../../shared/model/dictionary.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { freePort } from '../../../support/ports.ts';
import { until } from '../../../support/wait.ts';
import { Simulation } from './simulation.ts';

const HERE = { host: '127.0.0.1', port: 0 };
const get = (port: number, path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}${path}`, init);
const present = (text: string, gpu: number): string[] =>
  text.split('\n').filter((line) => line.includes(`gpu="${gpu}"`));

async function pageAfter(seconds: number): Promise<{ simulation: Simulation; page: DcgmPage }> {
  const simulation = new Simulation({ load: 'steady' });
  const page = new DcgmPage(simulation.collector);
  await simulation.read(0);
  await simulation.run(seconds);
  return { simulation, page };
}

describe('the page of a simulated node', () => {
  // Lost without it: a peer that scrapes the page is compared on other values than ours.
  test('read by the dcgm-exporter source, gives what the simulated source gives', async () => {
    const { simulation, page } = await pageAfter(400);
    simulation.collector.inject({ kind: 'ecc_burst', gpu: 2, duration: 20_000 });
    simulation.collector.inject({ kind: 'nvlink_flap', gpu: 4 });
    await simulation.run(45);
    await using server = await PageServer.listen(HERE);
    server.add('node-a', async () => page.render());
    await using scraper = createDcgmExporterCollector({
      url: `http://127.0.0.1:${server.address.port}/metrics/node-a`,
      intervalMs: 1000,
      naming: 'canonical',
      clock: systemClock,
      lastXids: { get: () => undefined, set: () => undefined },
      logger: silentLogger,
    });
    const scraped = await scraper.collect(AbortSignal.timeout(10_000));
    expect([...scraped.rejected]).toEqual([]);
    const theirs = new Map(
      scraped.dictionary.series.map(({ name, labels }, slot) => [
        `${name} ${labels}`,
        scraped.states[slot] === SlotState.Present ? scraped.values[slot]! : Number.NaN,
      ]),
    );
    let compared = 0;
    simulation.last.dictionary.series.forEach(({ name, labels }, slot) => {
      if (labelOf(labels, 'gpu') === undefined || name === 'gpu_info' || name === 'gpu_up') return;
      expect(theirs.get(`${name} ${labels}`), `${name} ${labels}`).toBe(simulation.last.values[slot]);
      compared++;
    });
    expect(compared).toBeGreaterThan(8 * 55);
    const jobs = [...theirs.keys()].filter((key) => key.startsWith('gpu_job_info'));
    expect(jobs).toHaveLength(8);
    expect(jobs[0]).toContain('pod,train-0001-node-a');
  });

  // Lost without it: other scrapers refuse the page, or take a counter for a gauge.
  test('has HELP and TYPE once before each field, and labels as dcgm-exporter orders them', async () => {
    const { page } = await pageAfter(1);
    const lines = page.render().trimEnd().split('\n');
    const fields = lines.filter((line) => line.startsWith('# TYPE')).map((line) => line.split(' ')[2]);
    expect(new Set(fields).size).toBe(fields.length);
    expect(fields.length).toBeGreaterThan(50);
    expect(lines).toContain('# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter');
    expect(lines.find((line) => line.startsWith('DCGM_FI_DEV_MEM_CLOCK'))).toMatch(
      /^DCGM_FI_DEV_MEM_CLOCK\{gpu="0",UUID="GPU-[0-9a-f-]{36}",pci_bus_id="00000000:1B:00\.0",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="node-a",DCGM_FI_DRIVER_VERSION="580\.105\.08"\} 2619$/,
    );
    for (const line of lines)
      expect(line).toMatch(/^(# (HELP|TYPE) .*|DCGM_FI_\w+\{[^}]*\} -?\d+(\.\d{6})?)$/);
  });

  // Lost without it: a GPU that is lost goes on with its last values on the page.
  test('has no lines of a GPU that is lost or not read in time, and all intros all the same', async () => {
    const { simulation, page } = await pageAfter(1);
    const intros = page
      .render()
      .split('\n')
      .filter((line) => line.startsWith('#')).length;
    simulation.collector.inject({ kind: 'off_the_bus', gpu: 0 });
    simulation.collector.inject({ kind: 'stuck_read', gpu: 1 });
    await simulation.read(1, AbortSignal.abort());
    const text = page.render();
    expect(present(text, 0)).toEqual([]);
    expect(present(text, 1)).toEqual([]);
    expect(present(text, 2).length).toBeGreaterThan(55);
    expect(text.split('\n').filter((line) => line.startsWith('#')).length).toBe(intros);
  });
});

describe('a fleet of pages', () => {
  // Lost without it: two runs of a benchmark scrape different fleets.
  test('is served on one port, listed as targets, and the same for the same seed and times', async () => {
    const time = { now: Date.UTC(2026, 0, 1) };
    const clock = { now: () => time.now, monotonic: () => time.now };
    const options = { address: HERE, nodes: 3, gpus: 2, seed: 4, intervalMs: 1000, clock };
    await using first = await servePageFleet(options);
    await using second = await servePageFleet(options);
    const ports = [first, second].map(({ server }) => server.address.port) as [number, number];
    const targets = (await (await get(ports[0], '/targets')).json()) as object[];
    expect(targets).toHaveLength(3);
    expect(targets[2]).toEqual({
      targets: [`127.0.0.1:${ports[0]}`],
      labels: { __metrics_path__: '/metrics/sim-002', node: 'sim-002' },
    });
    const texts: string[] = [];
    for (let scrape = 0; scrape < 3; scrape++) {
      time.now += 60_000;
      const [one, other] = await Promise.all(
        ports.map(async (port) => (await get(port, '/metrics/sim-001')).text()),
      );
      expect(one).toBe(other);
      texts.push(one!);
    }
    expect(new Set(texts).size).toBe(3);
    expect(await (await get(ports[0], '/metrics/sim-000')).text()).not.toBe(texts[2]);
  });

  // Lost without it: a wrong path looks like a node without GPUs, and a page that fails takes the others with it.
  test('answers what it has not with 404, other methods with 405, and a page that fails with 503', async () => {
    await using server = await PageServer.listen(HERE);
    server.add('a b', async () => 'one 1\n');
    server.add('bad', () => Promise.reject(new Error('no page')));
    const { port } = server.address;
    expect(await (await get(port, '/metrics/a%20b?x=1')).text()).toBe('one 1\n');
    const statuses = ['/', '/metrics', '/metrics/c', '/metrics/%E0%A4%A', '/metrics/bad'];
    expect(await Promise.all(statuses.map(async (path) => (await get(port, path)).status))).toEqual([
      404, 404, 404, 404, 503,
    ]);
    expect((await get(port, '/metrics/bad', { method: 'POST' })).status).toBe(405);
    server.remove('a b');
    expect((await get(port, '/metrics/a%20b')).status).toBe(404);
  });
});

describe('collectors.simulated.serve', () => {
  const surroundings = (node: string): Surroundings =>
    ({ node, intervalMs: 1000, clock: systemClock, logger: silentLogger }) as unknown as Surroundings;
  const signal = new AbortController().signal;

  // Lost without it: of twenty simulated nodes of one process the second cannot listen, or the first takes them all down.
  test('nodes of one process share its port; it closes with the last of them', async () => {
    const port = await freePort();
    const settings = v.parse(simulatedSettings, { gpus: 1, serve: `127.0.0.1:${port}` });
    const [first, second] = ['sim-000', 'sim-001'].map((node) => kind.create(settings, surroundings(node)));
    for (const collectors of [first!, second!])
      for (const collector of collectors) await collector.collect(signal);
    await until(async () => (await get(port, '/metrics/sim-001').catch(() => undefined))?.status === 200, {
      timeoutMs: 10_000,
      what: 'the page',
    });
    expect(await (await get(port, '/metrics/sim-000')).text()).toContain('Hostname="sim-000"');
    for (const collector of first!) await collector[Symbol.asyncDispose]();
    expect((await get(port, '/metrics/sim-000')).status).toBe(404);
    expect((await get(port, '/metrics/sim-001')).status).toBe(200);
    for (const collector of second!) await collector[Symbol.asyncDispose]();
    await expect(get(port, '/metrics/sim-001')).rejects.toThrow();
  });

  // Lost without it: a port that somebody has takes the simulated node with it, or nobody hears why nothing is served.
  test('an address that is taken is an error in the log, and the node goes on', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const said: unknown[] = [];
    const logger = { ...silentLogger, error: (facts: unknown) => said.push(facts) } as never;
    const served = servePage({ host: '127.0.0.1', port }, 'a', async () => '', logger);
    await until(() => said.length > 0, { timeoutMs: 10_000, what: 'the error' });
    expect(said).toEqual([
      { node: 'a', cause: expect.stringContaining(`Cannot serve pages on 127.0.0.1:${port}`) },
    ]);
    await served[Symbol.asyncDispose]();
    await new Promise((resolve) => other.close(resolve));
  });

  // Lost without it: a page of names that no exporter of AMD has.
  test('boards of AMD are not served', () => {
    const settings = v.parse(simulatedSettings, { model: 'MI300X', serve: '127.0.0.1:1' });
    expect(() => kind.create(settings, surroundings('a'))).toThrow(/Cannot serve MI300X/);
  });
});

describe('collectors.simulated', () => {
  // Lost without it: a configuration of before means something else now.
  test('what is not set: eight H100 with jobs and their training, nothing served', async () => {
    const settings = v.parse(simulatedSettings, {});
    expect(settings).toEqual({
      nodes: 1,
      gpus: 8,
      model: 'H100',
      seed: 1,
      faults: [],
      fault_rate: 0,
      load: 'jobs',
      training: true,
    });
    const surroundings = { node: 'a', intervalMs: 1000, clock: systemClock } as unknown as Surroundings;
    const names = (one: object) =>
      kind.create(v.parse(simulatedSettings, one), surroundings).map(({ name }) => name);
    expect(names({})).toEqual(['simulated', 'simulated_training']);
    expect(names({ training: false })).toEqual(['simulated']);
  });
});
