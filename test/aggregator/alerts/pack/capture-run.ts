import { readFileSync } from 'node:fs';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Source, Tick } from '#shared/model/block.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { createDeviceMetricsExporterCollector } from '../../../../agent/collect/amd/device-metrics-exporter/collector.ts';
import { parseRocmSmi } from '../../../../agent/collect/amd/rocm-smi/document.ts';
import { toldBy } from '../../../agent/collect/amd/told.ts';
import { FakeHost, patient } from '../../../agent/collect/host-files/fake-host.ts';
import { readEvents } from '../../../agent/collect/kernel-log/read-capture.ts';
import { networkOf } from '../../../agent/collect/network/ib-node.ts';
import { ScrapedNode } from '../../../agent/collect/nvidia/dcgm-exporter/scraped-node.ts';
import { SmiNode } from '../../../agent/collect/nvidia/nvidia-smi/smi-node.ts';
import { PageServer } from '../../../agent/collect/prometheus/page-server.ts';
import { PackRun } from './pack-run.ts';

const SOURCE: Source = { cluster: 'c', node: 'n1', externalLabels: [] };
const INTERVAL_MS = 10_000;
/** Longer than any `for` of the pack. */
const MINUTES = 35;
const LEAST_READ = 5;

/** A captured page or report as our agent reads it, the same again and again: what the shipped rules say of it. */
export async function linesOfCapture(
  file: string,
  change: (text: string) => string = (text) => text,
): Promise<string[]> {
  const reading = await readingOf(file, change);
  // A capture of which nothing is read raises nothing, and says nothing.
  const read = reading.states.filter((state) => state === SlotState.Present).length;
  if (read < LEAST_READ) throw new Error(`only ${read} values of ${file} were read`);
  using run = new PackRun();
  const dictionary = createDictionary('capture', INTERVAL_MS, reading.dictionary.series);
  for (let tick = 0; tick < (MINUTES * 60_000) / INTERVAL_MS; tick++) {
    run.block(SOURCE, { ...reading, dictionary });
    run.pass(INTERVAL_MS);
  }
  return run.lines.map((line) => line.replace(/ firing$/, ''));
}

/** What the shipped rules say of a captured kernel log. */
export function linesOfLog(file: string): string[] {
  using run = new PackRun();
  for (const event of readEvents(readFileSync(file, 'utf8')).events) run.event(SOURCE, event);
  return [...new Set(run.lines.map((line) => line.replace(/ firing$/, '')))];
}

async function readingOf(file: string, change: (text: string) => string): Promise<Tick> {
  const bytes = Buffer.from(change(readFileSync(file, 'utf8')));
  if (file.endsWith('.tsv')) return await infinibandOf(bytes.toString('latin1'));
  if (file.includes('device-metrics-exporter')) return await amdExporterOf(bytes);
  if (file.endsWith('.metrics')) {
    await using node = await ScrapedNode.start();
    return await node.scrape(bytes.toString('utf8'));
  }
  if (file.endsWith('.json')) return toldBy('rocmSmi', parseRocmSmi(bytes)!.gpus);
  await using node = new SmiNode(file.endsWith('.xml') ? 'xml' : 'csv');
  return await node.read(bytes);
}

async function amdExporterOf(page: Buffer): Promise<Tick> {
  await using server = await PageServer.listen();
  let now = 0;
  await using collector = createDeviceMetricsExporterCollector({
    ...{ url: server.url, sys: '/nowhere', intervalMs: 1000, timeoutMs: 5000, maxBodyBytes: 2 ** 20 },
    clock: { now: () => (now += 1000), monotonic: () => (now += 1) },
    logger: silentLogger,
  });
  server.page = page as unknown as typeof server.page;
  return await collector.collect(new AbortController().signal);
}

/** /sys/class/infiniband as `path<tab>content` lines. */
async function infinibandOf(tree: string): Promise<Tick> {
  await using host = new FakeHost();
  for (const line of tree.split('\n')) {
    const [path, value] = line.split('\t');
    if (line.startsWith('#') || value === undefined || !/^\w+(\/\w+)+$/.test(path!)) continue;
    host.write(`sys/class/infiniband/${path}`, Buffer.from(`${value.replaceAll('\\n', '\n')}\n`, 'latin1'));
  }
  await using collector = networkOf(host);
  return await collector.collect(patient);
}
