import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import type { PrometheusCollector } from '../../../../agent/collect/prometheus/collector.ts';
import { kind } from '../../../../agent/collect/prometheus/kind.ts';
import type { Surroundings } from '../../../../agent/collect/source-kind.ts';
import { Fuzz } from '../../../support/fuzz.ts';
import { tempDir } from '../../../support/temp.ts';
import { PageServer } from './page-server.ts';
import { collectorOf, own, scrape, shown, targetOf } from './target-under-test.ts';

let server: PageServer;
const made: PrometheusCollector[] = [];

beforeEach(async () => {
  server = await PageServer.listen();
});
afterEach(async () => {
  for (const collector of made.splice(0)) await collector[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

function collector(settings: Readonly<Record<string, unknown>> = {}): PrometheusCollector {
  const one = collectorOf({ url: server.url, instance: 'here:1', ...settings });
  made.push(one);
  return one;
}

async function scraped(page: PageServer['page'], settings: Readonly<Record<string, unknown>> = {}) {
  server.page = page;
  return scrape(collector(settings));
}

const openMetrics =
  (page: string): PageServer['page'] =>
  (_, response) =>
    response.setHeader('content-type', 'application/openmetrics-text; version=1.0.0').end(page);

// Lost without it: series of an endpoint that this product was not written for.
test('everything passes through, with its type, help and unit', async () => {
  const page = [
    '# HELP loss Training loss',
    '# TYPE loss gauge',
    '# UNIT loss nats',
    'loss{rank="0"} 2.25',
    '# TYPE steps_total counter',
    'steps_total 7',
    '# TYPE took_seconds histogram',
    'took_seconds_bucket{le="0.5"} 1',
    'took_seconds_bucket{le="+Inf"} 3',
    'took_seconds_sum 1.5',
    'took_seconds_count 3',
    '# TYPE wait_seconds summary',
    'wait_seconds{quantile="0.5"} 0.25',
    'wait_seconds_count 4',
    'untyped_thing 9223372036854775807 1700000000000',
  ].join('\n');
  const reading = await scraped(page);
  const at = 'instance="here:1",job="app"';
  expect(shown(reading)).toEqual({
    [`loss{${at},rank="0"}`]: 2.25,
    [`steps_total{${at}}`]: 7,
    [`took_seconds_bucket{${at},le="0.5"}`]: 1,
    [`took_seconds_bucket{${at},le="+Inf"}`]: 3,
    [`took_seconds_sum{${at}}`]: 1.5,
    [`took_seconds_count{${at}}`]: 3,
    [`wait_seconds{${at},quantile="0.5"}`]: 0.25,
    [`wait_seconds_count{${at}}`]: 4,
    [`untyped_thing{${at}}`]: 2 ** 63,
  });
  const kinds = reading.dictionary.series.filter(({ kind }) => kind === 'counter').map(({ name }) => name);
  expect(kinds).toEqual([
    ...[
      'steps_total',
      'took_seconds_bucket',
      'took_seconds_bucket',
      'took_seconds_sum',
      'took_seconds_count',
    ],
    'wait_seconds_count',
  ]);
  expect(reading.dictionary.series.find(({ name }) => name === 'loss')).toMatchObject({
    help: 'Training loss',
    unit: 'nats',
  });
  expect(own(reading, 'up')).toBe(1);
  expect(own(reading, 'scrape_samples_scraped')).toBe(9);
  const up = reading.dictionary.series.find(({ name }) => name === 'up');
  expect(Object.fromEntries(up!.labels)).toEqual({
    instance: 'here:1',
    job: 'app',
    source: 'prometheus/app',
  });
});

describe('labels that a page shares with its target', () => {
  const page = 'a{job="theirs",exported_job="x",node="n",cluster="c"} 1\n';

  test('are renamed', async () => {
    expect(Object.keys(shown(await scraped(page)))).toEqual([
      'a{exported_cluster="c",exported_exported_job="theirs",exported_job="x",exported_node="n",instance="here:1",job="app"}',
    ]);
  });

  // Lost without it: a federated page or a push gateway, whose jobs are the point.
  test('win where they are honoured; node and cluster never do', async () => {
    expect(Object.keys(shown(await scraped(page, { honor_labels: true })))).toEqual([
      'a{exported_cluster="c",exported_job="x",exported_node="n",instance="here:1",job="theirs"}',
    ]);
  });
});

test('relabelling drops, renames and counts', async () => {
  const reading = await scraped('a 1\nb 2\nc 3\n', {
    metric_relabel_configs: [
      { source_labels: ['__name__'], regex: 'b', action: 'drop' },
      { source_labels: ['__name__'], regex: 'c', target_label: '__name__', replacement: 'd' },
      { regex: 'instance|job', action: 'labeldrop' },
    ],
  });
  expect(shown(reading)).toEqual({ 'a{}': 1, 'd{}': 3 });
  expect(reading.rejected).toEqual(new Map([['dropped', 1]]));
});

test('two lines that relabelling makes one series are one, the first, and counted', async () => {
  const reading = await scraped('a{x="1"} 1\na{x="2"} 2\n', {
    metric_relabel_configs: [{ regex: 'x', action: 'labeldrop' }],
  });
  expect(Object.values(shown(reading))).toEqual([1]);
  expect(reading.rejected).toEqual(new Map([['duplicate', 1]]));
});

describe('a page over a limit', () => {
  test('of series keeps the first and counts the others', async () => {
    const page = Array.from({ length: 20 }, (_, i) => `a{i="${i}"} ${i}`).join('\n');
    const reading = await scraped(page, { series_limit: 5 });
    expect(Object.values(shown(reading))).toEqual([0, 1, 2, 3, 4]);
    expect(reading.rejected.get('series_limit')).toBe(15);
  });

  test('of samples is refused as a whole', async () => {
    const reading = await scraped('a 1\nb 2\n', { sample_limit: 1 });
    expect(shown(reading)).toEqual({});
    expect(own(reading, 'up')).toBe(0);
  });

  test('of labels loses those series alone', async () => {
    const labels = Array.from({ length: 23 }, (_, i) => `l${i}="x"`).join(',');
    const page = `a{${labels}} 1\nb{l="${'x'.repeat(1025)}"} 2\nc{l="${'ä'.repeat(512)}"} 3\n`;
    const reading = await scraped(page);
    expect(Object.values(shown(reading))).toEqual([3]);
    expect(reading.rejected).toEqual(new Map([['label_limit', 2]]));
  });

  // Lost without it: a page that the buffer cannot record, for ever.
  test('of what a dictionary may hold keeps what fits', async () => {
    const page = Array.from({ length: 4000 }, (_, i) => `a{l="${`${i}`.padEnd(1000, 'x')}"} ${i}`).join('\n');
    const reading = await scraped(page);
    const kept = Object.keys(shown(reading)).length;
    expect(kept).toBeGreaterThan(2000);
    expect(kept + (reading.rejected.get('series_limit') ?? 0)).toBe(4000);
  });
});

describe('OpenMetrics', () => {
  test('is read with exemplars, times of creation and its end', async () => {
    const page = [
      '# TYPE foo counter',
      '# UNIT foo seconds',
      'foo_total{a="b"} 17.0 1520879607.789 # {trace_id="KOO5S4vxi0o"} 0.67 1520879607.1',
      'foo_created{a="b"} 1520430000.123',
      '# TYPE bar histogram',
      'bar_bucket{le="1.0"} 2 # {} 0.5',
      '# EOF',
      '',
    ].join('\n');
    for (let i = 0; i < 2; i++) {
      const reading = await scraped(openMetrics(page), { metric_relabel_configs: [DROP_TARGET] });
      expect(shown(reading)).toEqual({
        'foo_total{a="b"}': 17,
        'foo_created{a="b"}': 1520430000.123,
        'bar_bucket{le="1.0"}': 2,
      });
      expect(reading.rejected.get('malformed')).toBeUndefined();
      const found = reading.dictionary.series.filter(({ name }) => /^(foo|bar)/.test(name));
      expect(found.map(({ kind, unit }) => [kind, unit])).toEqual([
        ['counter', 'seconds'],
        ['gauge', 'seconds'],
        ['counter', ''],
      ]);
    }
  });

  // Lost without it: half a page is taken for all of it, and the other half of the series ends.
  test('that is cut off is a failed scrape', async () => {
    const reading = await scraped(openMetrics('a 1\nb 2\n# EO'));
    expect([shown(reading), own(reading, 'up')]).toEqual([{}, 0]);
  });

  test('is asked for, and plain text accepted', async () => {
    await scraped((request, response) => {
      expect(request.headers.accept).toMatch(/^application\/openmetrics-text;.*text\/plain;version=0\.0\.4/);
      response.end('a 1\n');
    });
    expect(server.requests).toBe(1);
  });
});

const DROP_TARGET = { regex: 'job|instance', action: 'labeldrop' };

describe('a target that does not answer', () => {
  test.each<[string, PageServer['page'], string]>([
    ['with 503', (_, response) => response.writeHead(503).end(), 'absent'],
    ['with 401', (_, response) => response.writeHead(401).end(), 'no_permission'],
    ['in time', () => {}, 'timeout'],
    ['with Prometheus text', '<html>Sign in</html>', 'absent'],
  ])('%s keeps its series without values, and its up is 0', async (_, page, state) => {
    const one = collector({ timeout: '200ms' });
    server.page = 'a 1\n';
    await scrape(one);
    server.page = page;
    const reading = await scrape(one);
    expect([Object.values(shown(reading)), own(reading, 'up')]).toEqual([[state], 0]);
    server.page = 'a 2\n';
    expect(Object.values(shown(await scrape(one)))).toEqual([2]);
  });

  // Lost without it: one endpoint that hangs takes the others' samples with it.
  test('delays no other target', async () => {
    const targets = [
      targetOf({ url: server.url }),
      targetOf({ name: 'b', url: server.url.replace('/metrics', '/b') }),
    ];
    server.page = (request, response) => {
      if (request.url === '/b') response.end('b 1\n');
    };
    const surroundings = { intervalMs: 60_000, clock: systemClock, logger: silentLogger } as Surroundings;
    const both = kind.create({ targets }, surroundings) as PrometheusCollector[];
    made.push(...both);
    expect(both.map(({ name }) => name)).toEqual(['prometheus/app', 'prometheus/b']);
    const ending = new AbortController();
    const slow = scrape(both[0]!, ending.signal);
    expect(own(await scrape(both[1]!), 'up')).toBe(1);
    ending.abort();
    expect(own(await slow, 'up')).toBe(0);
  });
});

describe('a target that wants to know who asks', () => {
  test.each([
    ['a password', { basic_auth: { username: 'me', password_file: 'secret' } }, 'Basic bWU6czNjcmV0'],
    ['a token', { bearer_token_file: 'secret' }, 'Bearer s3cret'],
  ])('is told %s, read anew each time', async (_, settings, expected) => {
    await using folder = tempDir('prometheus');
    const path = join(folder.path, 'secret');
    writeFileSync(path, 's3cret\n');
    const seen: (string | undefined)[] = [];
    server.page = (request, response) => {
      seen.push(request.headers.authorization);
      response.end('a 1\n');
    };
    const one = collector(JSON.parse(JSON.stringify(settings).replace('"secret"', JSON.stringify(path))));
    await scrape(one);
    writeFileSync(path, 'two\nlines');
    expect(own(await scrape(one), 'up')).toBe(0);
    expect(seen).toEqual([expected]);
  });

  test('by a file that is not there is a failed scrape, and no request', async () => {
    const one = collector({ tls: { ca: '/nonexistent/ca.pem' } });
    expect(own(await scrape(one), 'up')).toBe(0);
    expect(server.requests).toBe(0);
  });
});

// Lost without it: a page of one broken or hostile process stops the agent, or makes up values.
test('hostile pages never throw, and what they say is limited', async () => {
  const fuzz = new Fuzz(11);
  const seeds = ['# TYPE a counter\na{b="c"} 1\na{b="d"} 2e3\n# EOF\n', 'x{y="\\"z\\\\"} NaN\nn +Inf\n'].map(
    (text) => Buffer.from(text),
  );
  const one = collector({ series_limit: 10 });
  for (let i = 0; i < 300; i++) {
    const body = Buffer.from(fuzz.mutate(seeds));
    const asOpenMetrics = fuzz.chance(0.3);
    server.page = (_, response) => {
      if (asOpenMetrics) response.setHeader('content-type', 'application/openmetrics-text');
      response.end(body);
    };
    const reading = await scrape(one);
    expect(Object.keys(shown(reading)).length).toBeLessThanOrEqual(10);
    for (const [slot, state] of reading.states.entries()) {
      if (state === 0) expect(reading.values[slot]).not.toBeNaN();
    }
  }
});

test.each([
  [{ url: 'ftp://a/' }],
  [{ url: 'http://a/', honor_timestamps: true }],
  [{ url: 'http://a/', name: 'a b' }],
  [{ url: 'http://a/', tls: { cert: '/c' } }],
  [{ url: 'http://a/', label_limit: 25 }],
  [{ url: 'http://a/', bearer_token_file: '/a', basic_auth: { username: 'a', password_file: '/b' } }],
])('settings %j are refused', (settings) => {
  expect(() => targetOf(settings)).toThrow();
});
