import { expect } from 'vitest';
import { fieldPaths, type ReceivedRequest } from '../support/remote-write-receiver.ts';
import { until } from '../support/wait.ts';
import { carries, identityOf, type RemoteWriteStand, sampleOf } from './remote-write-stand.ts';

/*
 * The names are those of the sender tests of the Prometheus compliance suites, repository prometheus/compliance:
 *
 * - 1.0: remotewrite/sender/main_test.go and remotewrite/sender/cases/*.go, all nineteen.
 * - 2.0: remotewrite/sender/{protocol,samples,labels,retry,backoff,response,error_handling,timestamps,batching,
 *   histograms,edge_cases,combined,rw1_compat}_test.go, those that can be asked of a sender of version 1.0. Left
 *   out is what 2.0 alone has: symbol tables, exemplars, metadata and created timestamps inside the request, native
 *   histograms, falling back from 2.0 on a 415, and X-Prometheus-Remote-Write-*-Written headers. A name that says
 *   what another one of this table says is left out too.
 *
 * What is asserted, and how, is ours: what the product really sends, end to end, to the bit. Where it differs from
 * the suite on purpose, `instead` says what it does and why.
 */
export interface ConformanceCase {
  readonly name: string;
  /** Present where we differ from what the suite expects. */
  readonly instead?: string;
  readonly run: (stand: RemoteWriteStand) => Promise<void>;
}

const STALE_MARKER = '7ff0000000000002';
const OURS = { cluster: 'test', node: 'node-1', rack: 'r7' };
const ok = (status: number, body?: string) => ({ status, ...(body !== undefined && { body }) });

/** A page of one gauge; the value is the case's own, so that no case sees another's. */
const gauge = (name: string, value: number | string, labels = ''): string =>
  `# HELP ${name} A gauge\n# TYPE ${name} gauge\n${name}${labels} ${value}\n`;

/** All stored samples of a metric, as they came. */
const storedOf = (stand: RemoteWriteStand, name: string) =>
  stand.receiver.stored.filter(({ labels }) => labels.__name__ === name);

/** Each text of `page` in turn, and the values of a metric over all scrapes, repeats taken out. */
async function valuesOver(stand: RemoteWriteStand, name: string, pages: readonly string[]) {
  for (const page of pages) await stand.scrape(page);
  const values = storedOf(stand, name).map(({ value }) => value);
  return values.filter((value, at) => value !== values[at - 1]);
}

async function arrived(stand: RemoteWriteStand, name: string, printed: string): Promise<number | undefined> {
  return sampleOf(await stand.scrape(gauge(name, printed)), name)?.value;
}

/** A failure of the store: the same bytes come again, and every sample is stored in the end. */
async function expectRetried(
  stand: RemoteWriteStand,
  name: string,
  answers: readonly { status: number; body?: string; headers?: Record<string, string> }[],
): Promise<void> {
  const { troubled, later } = await stand.answering(name, gauge(name, 42), answers);
  for (const request of troubled) await stand.stored(request);
  const first = troubled[0]!;
  expect([...troubled.slice(1), ...later()].some(({ body }) => body.equals(first.body))).toBe(true);
  const times = storedOf(stand, name).map(identityOf);
  expect(new Set(times).size).toBe(times.length);
}

/**
 * A refusal for content, of a series that the store never takes: the request is not sent again as it was. It is cut
 * in two until the series stands alone, and that alone is lost.
 */
async function expectBisected(
  stand: RemoteWriteStand,
  name: string,
  status: number,
  body = 'bad',
): Promise<void> {
  const refused: ReceivedRequest[] = [];
  stand.receiver.answer = (request) => {
    if (!carries(request, name)) return ok(204);
    refused.push(request);
    return ok(status, body);
  };
  const good = `${name}_neighbour`;
  const page = [gauge(`${good}_a`, 1), gauge(name, 2), gauge(`${good}_b`, 3)].join('');
  await stand.scrape(page);
  await until(() => refused.some(({ samples }) => samples.length === 1), {
    timeoutMs: 20_000,
    what: 'the series alone',
  });
  const alone = refused.find(({ samples }) => samples.length === 1)!.samples[0]!;
  const neighbour = await until(
    () => storedOf(stand, `${good}_b`).find(({ timestampMs }) => timestampMs === alone.timestampMs),
    { timeoutMs: 20_000, what: 'its neighbour of the same scrape' },
  );
  expect(neighbour.value).toBe(3);
  expect(storedOf(stand, name)).toEqual([]);
  const bodies = refused.map((request) => request.body.toString('base64'));
  expect(new Set(bodies).size, 'no refused request is sent twice').toBe(bodies.length);
  stand.heal();
}

function sentBy(stand: RemoteWriteStand, name: string): ReceivedRequest {
  return stand.receiver.requests.find((request) => carries(request, name))!;
}

export const CASES_1_0: readonly ConformanceCase[] = [
  {
    name: 'Counter',
    async run(stand) {
      const pages = [0, 1, 2, 3].map((n) => `# TYPE counter_total counter\ncounter_total ${n}\n`);
      expect(await valuesOver(stand, 'counter_total', pages)).toEqual([0, 1, 2, 3]);
    },
  },
  {
    name: 'Gauge',
    async run(stand) {
      const pages = [1_780_000_000_000, -1, 0.5].map((value) => gauge('now', value));
      expect(await valuesOver(stand, 'now', pages)).toEqual([1_780_000_000_000, -1, 0.5]);
    },
  },
  {
    name: 'Histogram',
    async run(stand) {
      const scrape = await stand.scrape(`# TYPE histogram histogram
histogram_bucket{le="1"} 1
histogram_bucket{le="2"} 2
histogram_bucket{le="+Inf"} 2
histogram_sum 3
histogram_count 2`);
      const bucket = (le: string) => sampleOf(scrape, 'histogram_bucket', { le })?.value;
      expect([bucket('1'), bucket('2'), bucket('+Inf')]).toEqual([1, 2, 2]);
      expect(sampleOf(scrape, 'histogram_sum')?.value).toBe(3);
      expect(sampleOf(scrape, 'histogram_count')?.value).toBe(2);
    },
  },
  {
    name: 'Summary',
    async run(stand) {
      const scrape = await stand.scrape(`# TYPE summary summary
summary{quantile="0.5"} 2
summary{quantile="0.9"} 3
summary{quantile="0.99"} 3
summary_sum 6
summary_count 3`);
      const quantile = (text: string) => sampleOf(scrape, 'summary', { quantile: text })?.value;
      expect([quantile('0.5'), quantile('0.9'), quantile('0.99')]).toEqual([2, 3, 3]);
      expect(sampleOf(scrape, 'summary_sum')?.value).toBe(6);
      expect(sampleOf(scrape, 'summary_count')?.value).toBe(3);
    },
  },
  {
    name: 'Up',
    instead:
      'up carries the label source: a node has several sources, and none is a job of a scrape configuration',
    async run(stand) {
      const up = sampleOf(await stand.scrape(gauge('up_test', 42)), 'up');
      expect(up).toMatchObject({ value: 1, labels: { source: 'dcgm-exporter', ...OURS } });
    },
  },
  {
    name: 'Invalid',
    async run(stand) {
      await stand.scrape(gauge('invalid_test', 42));
      const failed = await stand.failingScrape('# this is not valid prometheus\n1234notvali}{ 444\n');
      expect(sampleOf(failed, 'up')).toMatchObject({
        value: 0,
        labels: { source: 'dcgm-exporter', ...OURS },
      });
      expect(sampleOf(failed, 'invalid_test'), 'nothing that was scraped before is repeated').toBeUndefined();
    },
  },
  {
    name: 'JobLabel',
    instead: 'the labels that say where a series is from are cluster and node; a job is made for no series',
    async run(stand) {
      const sample = sampleOf(await stand.scrape(gauge('job_label_test', 42)), 'job_label_test');
      expect(sample?.labels).toEqual({ __name__: 'job_label_test', ...OURS });
    },
  },
  {
    name: 'InstanceLabel',
    instead:
      'node takes the place of instance: the name of the machine, not the port of an exporter on its loopback',
    async run(stand) {
      const sample = sampleOf(await stand.scrape(gauge('instance_label_test', 42)), 'instance_label_test');
      expect(sample).toMatchObject({ value: 42, labels: { node: 'node-1' } });
      expect(sample?.labels).not.toHaveProperty('instance');
    },
  },
  {
    name: 'SortedLabels',
    async run(stand) {
      const scrape = await stand.scrape(gauge('sorted_test', 1, '{zone="3",b="2",Z="4",a="1"}'));
      const names = sampleOf(scrape, 'sorted_test')?.pairs.map(([name]) => name);
      expect(names).toEqual(['Z', '__name__', 'a', 'b', 'cluster', 'node', 'rack', 'zone']);
      for (const { pairs } of stand.receiver.stored) {
        const all = pairs.map(([name]) => name);
        expect(all).toEqual([...all].sort());
      }
    },
  },
  {
    name: 'RepeatedLabels',
    instead:
      'the line is left out and counted, and the rest of the scrape is kept: one bad line costs no other series',
    async run(stand) {
      const scrape = await stand.scrape(
        `${gauge('repeated_test', 1, '{a="1",a="1"}')}${gauge('beside_repeated_test', 2)}`,
      );
      expect(sampleOf(scrape, 'repeated_test')).toBeUndefined();
      expect(sampleOf(scrape, 'beside_repeated_test')?.value).toBe(2);
      for (const { pairs } of stand.receiver.stored) {
        expect(new Set(pairs.map(([name]) => name)).size).toBe(pairs.length);
      }
    },
  },
  {
    name: 'EmptyLabels',
    async run(stand) {
      const scrape = await stand.scrape(gauge('empty_label_test', 1, '{a=""}'));
      expect(sampleOf(scrape, 'empty_label_test')?.labels).toEqual({ __name__: 'empty_label_test', ...OURS });
      for (const { pairs } of stand.receiver.stored)
        expect(pairs.every(([, value]) => value !== '')).toBe(true);
    },
  },
  {
    name: 'NameLabel',
    async run(stand) {
      const scrape = await stand.scrape('{label="value"} 1\nbeside_nameless_test 2');
      expect(sampleOf(scrape, 'beside_nameless_test')?.value).toBe(2);
      expect(scrape.samples.filter(({ labels }) => labels.label === 'value')).toEqual([]);
      for (const { pairs } of stand.receiver.stored) {
        expect(pairs.filter(([name]) => name === '__name__').map(([, value]) => value)).toEqual([
          expect.stringMatching(/^[a-zA-Z_:][a-zA-Z0-9_:]*$/),
        ]);
      }
    },
  },
  {
    name: 'HonorLabels',
    instead:
      'job and instance of the target stay as they are, since we set none; what we do set is kept apart as exported_',
    async run(stand) {
      const labels = '{job="original",instance="foo",node="theirs",cluster="theirs",rack="theirs"}';
      const sample = sampleOf(await stand.scrape(gauge('honor_test', 1, labels)), 'honor_test');
      expect(sample?.labels).toEqual({
        __name__: 'honor_test',
        cluster: 'test',
        exported_cluster: 'theirs',
        exported_node: 'theirs',
        instance: 'foo',
        job: 'original',
        node: 'node-1',
        // An external label is what the configuration adds where a series does not say it itself, as in Prometheus.
        rack: 'theirs',
      });
    },
  },
  {
    name: 'Staleness',
    async run(stand) {
      await stand.scrape(gauge('stale_test', 1));
      await stand.scrape(gauge('not_stale_test', 1));
      const marker = await until(
        () => storedOf(stand, 'stale_test').find(({ bits }) => bits === STALE_MARKER),
        {
          timeoutMs: 20_000,
          what: 'the marker of a series that went',
        },
      );
      expect(storedOf(stand, 'stale_test').at(-1)).toBe(marker);
      expect(storedOf(stand, 'not_stale_test').every(({ bits }) => bits !== STALE_MARKER)).toBe(true);
      const again = await stand.scrape(gauge('stale_test', 2));
      expect(sampleOf(again, 'stale_test')?.value).toBe(2);
      expect(again.timestampMs).toBeGreaterThan(marker.timestampMs);
    },
  },
  {
    name: 'Timestamp',
    async run(stand) {
      const before = Date.now();
      const scrape = await stand.scrape(gauge('timestamp_test', 42));
      expect(scrape.timestampMs).toBeGreaterThanOrEqual(before - 200);
      expect(scrape.timestampMs).toBeLessThanOrEqual(Date.now());
      await stand.scrape(gauge('timestamp_test', 43));
      const times = storedOf(stand, 'timestamp_test').map(({ timestampMs }) => timestampMs);
      expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
    },
  },
  {
    name: 'Headers',
    async run(stand) {
      await stand.scrape(gauge('headers_test', 1));
      for (const { headers } of stand.receiver.requests) {
        expect(headers).toMatchObject({
          'content-encoding': 'snappy',
          'content-type': 'application/x-protobuf',
          'x-prometheus-remote-write-version': '0.1.0',
        });
      }
    },
  },
  {
    name: 'Ordering',
    instead:
      'rising within each request; across requests a newer scrape may overtake a slow one: fresh data goes first, and VictoriaMetrics takes samples in any order',
    async run(stand) {
      const series = 1000;
      const page = Array.from({ length: series }, (_, i) => `ordering_test{i="${i}"} 1`).join('\n');
      let delayed = 0;
      stand.receiver.answer = async () => {
        if (++delayed % 2) await new Promise((resolve) => setTimeout(resolve, 50 + ((delayed * 37) % 100)));
        return ok(204);
      };
      const first = await stand.scrape(page);
      const second = await stand.scrape(page);
      stand.heal();
      for (const { samples } of [first, second])
        expect(samples.filter(({ labels }) => labels.__name__ === 'ordering_test')).toHaveLength(series);
      expect(second.timestampMs).toBeGreaterThan(first.timestampMs);
      for (const { samples } of stand.receiver.requests) {
        const last = new Map<string, number>();
        for (const { pairs, timestampMs } of samples) {
          const key = JSON.stringify(pairs);
          expect(timestampMs).toBeGreaterThan(last.get(key) ?? 0);
          last.set(key, timestampMs);
        }
      }
    },
  },
  {
    name: 'Retries500',
    async run(stand) {
      await expectRetried(stand, 'retries_500_test', [ok(500, 'internal server error')]);
    },
  },
  {
    name: 'Retries400',
    instead:
      'not sent again as it was: it is halved until the series at fault stands alone, so that its neighbours are kept',
    async run(stand) {
      await expectBisected(stand, 'retries_400_test', 400, 'bad request');
    },
  },
];

/** A page of one line, and the value that must arrive, to the bit. */
const encodes = (name: string, printed: string, value: number): ConformanceCase => ({
  name,
  async run(stand) {
    expect(await arrived(stand, `${name}_test`, printed)).toBe(value);
  },
});

const retried = (name: string, status: number): ConformanceCase => ({
  name,
  async run(stand) {
    await expectRetried(stand, `${name}_test`, [ok(status, 'not now')]);
  },
});

const HELD =
  'sent again: it says that the way to the store is wrong, not the samples; they are kept until somebody mends it';

export const CASES_2_0: readonly ConformanceCase[] = [
  {
    name: 'http_post_method',
    async run(stand) {
      await stand.scrape(gauge('post_test', 42));
      expect(sentBy(stand, 'post_test')).toMatchObject({ method: 'POST', path: '/api/v1/write' });
    },
  },
  {
    name: 'content_type_protobuf',
    async run(stand) {
      await stand.scrape(gauge('content_type_test', 42));
      expect(sentBy(stand, 'content_type_test').headers['content-type']).toBe('application/x-protobuf');
    },
  },
  {
    name: 'snappy_block_format',
    async run(stand) {
      await stand.scrape(gauge('snappy_test', 42));
      const { body, message } = sentBy(stand, 'snappy_test');
      // A block begins with the length of what is in it; a framed stream with ff 06 00 00 "sNaPpY".
      expect(body.subarray(0, 4)).not.toEqual(Buffer.from('ff060000', 'hex'));
      let length = 0;
      for (let at = 0; ; at++) {
        length += (body[at]! & 0x7f) * 128 ** at;
        if (body[at]! < 0x80) break;
      }
      expect(length).toBe(message.length);
    },
  },
  {
    name: 'user_agent_present',
    async run(stand) {
      await stand.scrape(gauge('user_agent_test', 42));
      expect(sentBy(stand, 'user_agent_test').headers['user-agent']).toMatch(/^gpufleet/);
    },
  },
  {
    name: 'rw1_version_header',
    async run(stand) {
      await stand.scrape(gauge('version_test', 42));
      expect(sentBy(stand, 'version_test').headers['x-prometheus-remote-write-version']).toBe('0.1.0');
    },
  },
  {
    name: 'rw1_samples_encoding',
    async run(stand) {
      const scrape = await stand.scrape('rw1_counter_total 100\n');
      expect(sampleOf(scrape, 'rw1_counter_total')).toMatchObject({
        bits: '4059000000000000',
        timestampMs: scrape.timestampMs,
      });
    },
  },
  {
    name: 'rw1_labels_encoding',
    async run(stand) {
      const scrape = await stand.scrape('rw1_labels_test{label="value"} 42\n');
      expect(sampleOf(scrape, 'rw1_labels_test')?.pairs).toEqual([
        ['__name__', 'rw1_labels_test'],
        ['cluster', 'test'],
        ['label', 'value'],
        ['node', 'node-1'],
        ['rack', 'r7'],
      ]);
    },
  },
  ...['rw1_no_native_histograms', 'rw1_no_start_timestamp', 'rw1_symbol_table_not_used'].map(
    (name): ConformanceCase => ({
      name,
      async run(stand) {
        await stand.scrape(`# TYPE ${name}_h histogram
${name}_h_count 100
${name}_h_sum 250
${name}_h_bucket{le="+Inf"} 100
# TYPE ${name}_total counter
${name}_total 100
${name}_created 1780000000`);
        // Of timeseries (1) only labels (1) and samples (2); of a label name and value; of a sample value and timestamp.
        expect([...fieldPaths(sentBy(stand, `${name}_total`).message)].sort()).toEqual(
          ['1', '1.1', '1.1.1', '1.1.2', '1.2', '1.2.1', '1.2.2'].sort(),
        );
      },
    }),
  ),
  {
    name: 'rw1_metadata_handling',
    instead: 'metadata goes no further than our own API: VictoriaMetrics 1.79 has no place for it',
    async run(stand) {
      await stand.scrape(
        '# HELP rw1_metadata_test Some help\n# TYPE rw1_metadata_test counter\nrw1_metadata_test 42',
      );
      expect(fieldPaths(sentBy(stand, 'rw1_metadata_test').message)).not.toContain('3');
    },
  },
  encodes('float_value_encoding', '123.45', 123.45),
  encodes('integer_value_encoding', '42', 42),
  encodes('zero_value_encoding', '0', 0),
  encodes('negative_value_encoding', '-15.5', -15.5),
  encodes('positive_infinity_encoding', '+Inf', Number.POSITIVE_INFINITY),
  encodes('negative_infinity_encoding', '-Inf', Number.NEGATIVE_INFINITY),
  {
    name: 'nan_encoding',
    instead:
      'a value that is not a number is set aside and counted: it would poison every average that it enters',
    async run(stand) {
      expect(await arrived(stand, 'nan_test', 'NaN')).toBeUndefined();
    },
  },
  encodes('large_float_values', '1.7976931348623157e+308', Number.MAX_VALUE),
  encodes('small_float_values', '2.2250738585072014e-308', 2.2250738585072014e-308),
  encodes('scientific_notation', '1.23e-4', 0.000123),
  encodes('precision_preservation', '0.123456789012345', 0.123456789012345),
  {
    name: 'timestamp_milliseconds_format',
    async run(stand) {
      const { timestampMs } = await stand.scrape(gauge('milliseconds_test', 42));
      expect(timestampMs).toBeGreaterThan(1e12);
      expect(timestampMs).toBeLessThan(1e13);
    },
  },
  {
    name: 'explicit_timestamp',
    instead:
      'a timestamp in the page is read over: a scrape has one time, that of the scrape, so that no series goes back',
    async run(stand) {
      const scrape = await stand.scrape('explicit_timestamp_test 101.13 1600000000000\n');
      expect(sampleOf(scrape, 'explicit_timestamp_test')).toMatchObject({
        value: 101.13,
        timestampMs: scrape.timestampMs,
      });
      expect(scrape.timestampMs).toBeGreaterThan(1_600_000_000_000);
    },
  },
  {
    name: 'timestamp_ordering_within_series',
    async run(stand) {
      await stand.scrape(gauge('order_test', 1));
      await stand.scrape(gauge('order_test', 2));
      for (const { samples } of stand.receiver.requests) {
        const times = samples
          .filter(({ labels }) => labels.__name__ === 'order_test')
          .map(({ timestampMs }) => timestampMs);
        expect(times).toEqual([...times].sort((a, b) => a - b));
      }
      expect(storedOf(stand, 'order_test').map(({ value }) => value)).toContain(2);
    },
  },
  {
    name: 'unicode_in_label_values',
    async run(stand) {
      const text = 'emoji="🚀",chinese="测试",vietnamese="tôi yêu việt nam",escaped="a\\\\b\\"c\\nd"';
      const scrape = await stand.scrape(`unicode_test{${text}} 42\n`);
      expect(sampleOf(scrape, 'unicode_test')?.labels).toEqual({
        __name__: 'unicode_test',
        chinese: '测试',
        emoji: '🚀',
        escaped: 'a\\b"c\nd',
        vietnamese: 'tôi yêu việt nam',
        ...OURS,
      });
    },
  },
  {
    name: 'metric_name_with_colons',
    async run(stand) {
      expect(await arrived(stand, 'http:request:duration:seconds', '0.5')).toBe(0.5);
    },
  },
  {
    name: 'very_long_metric_name',
    async run(stand) {
      const name = `metric_${'very_long_name_'.repeat(50)}`;
      expect(await arrived(stand, name, '42')).toBe(42);
    },
  },
  {
    name: 'huge_label_values',
    instead:
      'a label over 1 KiB costs its series and nothing else: VictoriaMetrics would cut it and make another series of it',
    async run(stand) {
      const scrape = await stand.scrape(
        `huge_test{l="${'x'.repeat(10_000)}"} 42\nlarge_test{l="${'x'.repeat(1024)}"} 43\n`,
      );
      expect(sampleOf(scrape, 'huge_test')).toBeUndefined();
      expect(sampleOf(scrape, 'large_test')?.labels.l).toHaveLength(1024);
    },
  },
  {
    name: 'empty_scrape',
    async run(stand) {
      const { samples } = await stand.scrape('# No metrics\n');
      const names = samples.map(({ labels }) => labels.__name__);
      expect(names).toEqual(
        expect.arrayContaining(['up', 'scrape_duration_seconds', 'scrape_samples_scraped']),
      );
      expect(sampleOf({ samples }, 'up')?.value).toBe(1);
    },
  },
  {
    name: 'multiple_series_per_request',
    async run(stand) {
      const page = Array.from({ length: 50 }, (_, i) => `batch_test{path="/api/v1/${i}"} ${i}`).join('\n');
      await stand.scrape(page);
      const { samples } = sentBy(stand, 'batch_test');
      // One request may bring two scrapes: all series of each are in it.
      const scrapes = Map.groupBy(
        samples.filter(({ labels }) => labels.__name__ === 'batch_test'),
        ({ timestampMs }) => timestampMs,
      );
      expect(scrapes.size).toBeGreaterThan(0);
      for (const series of scrapes.values()) expect(series.length).toBe(50);
    },
  },
  {
    name: 'mixed_sample_and_histogram_families',
    async run(stand) {
      const scrape = await stand.scrape(`# TYPE mixed_total counter
mixed_total 100
# TYPE mixed_celsius gauge
mixed_celsius 22.5
# TYPE mixed_time histogram
mixed_time_bucket{le="0.1"} 50
mixed_time_bucket{le="+Inf"} 100
mixed_time_sum 10.5
mixed_time_count 100
# TYPE mixed_rpc summary
mixed_rpc{quantile="0.9"} 0.1
mixed_rpc_sum 50
mixed_rpc_count 1000`);
      const mixed = scrape.samples.filter(({ labels }) => labels.__name__!.startsWith('mixed_'));
      expect(mixed.map(({ labels, value }) => [labels.__name__, value]).sort()).toEqual(
        [
          ['mixed_celsius', 22.5],
          ['mixed_rpc', 0.1],
          ['mixed_rpc_count', 1000],
          ['mixed_rpc_sum', 50],
          ['mixed_time_bucket', 100],
          ['mixed_time_bucket', 50],
          ['mixed_time_count', 100],
          ['mixed_time_sum', 10.5],
          ['mixed_total', 100],
        ].sort(),
      );
    },
  },
  {
    name: 'histogram_large_counts',
    async run(stand) {
      const scrape = await stand.scrape('large_h_count 1000000000\nlarge_h_sum 9007199254740993\n');
      expect(sampleOf(scrape, 'large_h_count')?.value).toBe(1e9);
      expect(sampleOf(scrape, 'large_h_sum')?.value).toBe(9007199254740992);
    },
  },
  retried('retry_on_500', 500),
  retried('retry_on_502', 502),
  retried('retry_on_503', 503),
  retried('retry_on_504', 504),
  {
    name: 'may_retry_on_429',
    async run(stand) {
      await expectRetried(stand, 'retry_429_test', [
        { status: 429, body: 'too many', headers: { 'retry-after': '1' } },
      ]);
    },
  },
  {
    name: 'backoff_required',
    async run(stand) {
      await expectRetried(stand, 'backoff_test', [ok(503), ok(503), ok(503), ok(503)]);
    },
  },
  { name: 'no_retry_on_400', run: (stand) => expectBisected(stand, 'no_retry_400_test', 400) },
  { ...retried('no_retry_on_401', 401), instead: HELD },
  { ...retried('no_retry_on_404', 404), instead: HELD },
  {
    name: 'no_retry_on_413',
    instead: 'smaller requests are sent: what is too large as a whole is not too large in halves',
    async run(stand) {
      const sizes: number[] = [];
      stand.receiver.answer = (request) => {
        if (!carries(request, 'no_retry_413_test')) return ok(204);
        sizes.push(request.samples.length);
        return ok(request.samples.length > 5 ? 413 : 204);
      };
      const page = Array.from({ length: 40 }, (_, i) => `no_retry_413_test{i="${i}"} ${i}`).join('\n');
      const { samples } = await stand.scrape(page);
      const { timestampMs } = samples[0]!;
      await until(
        () =>
          storedOf(stand, 'no_retry_413_test').filter((one) => one.timestampMs === timestampMs).length === 40,
        { timeoutMs: 20_000, what: 'all of a scrape in small requests' },
      );
      expect(sizes.some((size) => size > 5)).toBe(true);
      stand.heal();
    },
  },
  ...(
    [
      ['handle_204_no_content', 204, ''],
      ['handle_200_ok', 200, 'OK'],
      ['ignore_response_body_on_success', 200, 'Error: this body is of no interest'],
      ['handle_empty_response', 200, ''],
    ] as const
  ).map(
    ([name, status, body]): ConformanceCase => ({
      name,
      async run(stand) {
        const metric = `${name}_test`;
        stand.receiver.answer = () => ok(status, body);
        await stand.scrape(gauge(metric, 42));
        await stand.scrape(gauge(metric, 43));
        const sent = stand.receiver.requests.flatMap(({ samples }) => samples.map(identityOf));
        expect(new Set(sent.filter((one) => one.includes(metric))).size).toBe(storedOf(stand, metric).length);
        stand.heal();
      },
    }),
  ),
  {
    name: 'log_error_messages_verbatim',
    async run(stand) {
      const words = "Error: Invalid label name '__invalid__'";
      await expectBisected(stand, 'verbatim_test', 400, words);
      await until(() => stand.log.includes(words), {
        timeoutMs: 10_000,
        what: "the store's words in the log",
      });
    },
  },
  {
    name: 'handle_large_error_body',
    run: (stand) => expectBisected(stand, 'large_error_test', 400, 'x'.repeat(2 ** 20)),
  },
  {
    name: 'handle_invalid_status_code',
    run: (stand) => expectRetried(stand, 'status_999_test', [ok(999)]),
  },
  {
    name: 'sender_continues_after_errors',
    async run(stand) {
      await expectRetried(stand, 'continues_test', [ok(500), ok(502), ok(503)]);
      expect(await arrived(stand, 'continued_test', '1')).toBe(1);
    },
  },
];
