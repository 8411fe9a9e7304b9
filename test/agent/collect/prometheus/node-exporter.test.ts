import { describe, expect, test } from 'vitest';
import { metricNamed } from '#shared/catalogue/metrics.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { freePort } from '../../../support/ports.ts';
import { Child } from '../../../support/process.ts';
import { hasNodeExporter, nodeExporterBinary } from '../../../support/servers.ts';
import { until } from '../../../support/wait.ts';
import { PageServer } from './page-server.ts';
import { collectorOf, own, scrape } from './target-under-test.ts';

/** A second parser, plain and slow: name, labels and value of each sample line, and nothing clever. */
function parsed(page: string): Map<string, { token: string; type: string; help: string }> {
  const types = new Map<string, string>();
  const helps = new Map<string, string>();
  const samples = new Map<string, { token: string; type: string; help: string }>();
  for (const line of page.split('\n')) {
    const [, word, about, text] = /^# (TYPE|HELP) (\S+) ?(.*)$/.exec(line) ?? [];
    if (word === 'TYPE') types.set(about!, text!);
    if (word === 'HELP') helps.set(about!, text!);
    if (line.startsWith('#') || line.trim() === '') continue;
    const end = line.lastIndexOf(' ');
    const token = line.slice(end + 1);
    const head = line.slice(0, end);
    const name = head.split('{')[0]!;
    const labels: [string, string][] = [];
    if (head.includes('{')) {
      let rest = head.slice(name.length + 1, -1);
      while (rest !== '') {
        const label = rest.slice(0, rest.indexOf('='));
        let value = '';
        let i = label.length + 2;
        for (; rest[i] !== '"'; i++) {
          if (rest[i] === '\\') value += { n: '\n', '"': '"', '\\': '\\' }[rest[++i]!] ?? '';
          else value += rest[i];
        }
        if (value !== '') labels.push([label, value]);
        rest = rest.slice(i + 1).replace(/^,/, '');
      }
    }
    const family = [name, name.replace(/_(bucket|count|sum)$/, '')].find((one) => types.has(one)) ?? '';
    const key = JSON.stringify([name, labels.sort(([a], [b]) => (a < b ? -1 : 1))]);
    samples.set(key, { token, type: types.get(family) ?? '', help: helps.get(family) ?? '' });
  }
  return samples;
}

// Lost without it: the most common exporter of all, as it is and not as we think that it is.
describe.skipIf(!hasNodeExporter())("Debian's prometheus-node-exporter", () => {
  test('gives every sample of its page, with its type and help', async () => {
    const port = await freePort();
    await using exporter = await Child.start({
      name: 'prometheus-node-exporter',
      command: nodeExporterBinary(),
      args: [`--web.listen-address=127.0.0.1:${port}`],
    });
    const url = `http://127.0.0.1:${port}/metrics`;
    await using live = collectorOf({ url });
    await until(async () => own(await scrape(live), 'up') === 1, {
      timeoutMs: 20_000,
      what: 'node_exporter answers',
      hopeless: () => (exporter.exit ? `it ended: ${exporter.lastLines(3)}` : undefined),
    });
    // Both parsers must read one page: its values change from one request to the next.
    const page = await (await fetch(url)).text();
    await using server = await PageServer.listen();
    server.page = page;
    await using collector = collectorOf({ url: server.url });
    const expected = parsed(page);
    for (let round = 0; round < 2; round++) {
      const reading = await scrape(collector);
      expect(own(reading, 'scrape_samples_scraped')).toBe(expected.size);
      const left = new Set(expected.keys());
      for (const [slot, series] of reading.dictionary.series.entries()) {
        if (series.labels.some(([label]) => label === 'source')) continue;
        const labels = series.labels.filter(([label]) => label !== 'job' && label !== 'instance');
        const key = JSON.stringify([series.name, labels]);
        const sample = expected.get(key);
        expect(sample, key).toBeDefined();
        const { token, type, help } = sample!;
        left.delete(key);
        const value = token === 'NaN' ? Number.NaN : Number(token.replace('Inf', 'Infinity'));
        const metric = metricNamed(series.name);
        // It says -125,000 for a virtual card, whose speed the kernel gives as -1: outside the catalogue's range.
        const impossible = metric !== undefined && (value < metric.min || value > metric.max);
        if (Number.isNaN(value) || impossible) expect(reading.states[slot], key).toBe(SlotState.Quarantined);
        else
          expect([reading.states[slot], reading.values[slot]], key).toEqual([SlotState.Present, value + 0]);
        expect([series.help, series.kind === 'counter'], key).toEqual([
          help,
          type === 'counter' ||
            (/^(histogram|summary)$/.test(type) && /_(bucket|count|sum)$/.test(series.name)),
        ]);
      }
      expect([...left]).toEqual([]);
      expect(expected.size).toBeGreaterThan(200);
    }
  });
});
