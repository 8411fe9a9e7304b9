import { describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { Exporter, type ExporterOptions } from '../../../agent/expose/exporter.ts';
import { renderTicks } from '../../../agent/expose/exposition.ts';

const identity = [
  ['cluster', 'c'],
  ['node', 'n'],
] as const;

test('text of the newest ticks: identity labels, families together, escapes, and nothing for what is absent', () => {
  const series = (name: string, gpu: string, kind: 'gauge' | 'counter' = 'gauge') => ({
    name,
    labels: [['gpu', gpu]] as const,
    kind,
    decimals: 0,
    help: name === 'a' ? 'Say "a"\nand \\ more' : '',
    unit: '',
  });
  const dictionary = createDictionary('g', 1000, [
    series('a', '0'),
    series('b', '0', 'counter'),
    series('a', 'x"y'),
    series('a', '2'),
    series('a', '3'),
  ]);
  const tick = {
    dictionary,
    timestampMs: 1,
    values: Float64Array.of(1.5, 2 ** 53, Number.POSITIVE_INFINITY, 7, 8),
    states: Uint8Array.of(0, 0, 0, 1, 2),
  };
  expect(renderTicks([tick], identity)).toBe(
    [
      '# HELP a Say "a"\\nand \\\\ more',
      '# TYPE a gauge',
      'a{cluster="c",node="n",gpu="0"} 1.5',
      'a{cluster="c",node="n",gpu="x\\"y"} +Inf',
      '# TYPE b counter',
      'b{cluster="c",node="n",gpu="0"} 9007199254740992',
      '',
    ].join('\n'),
  );
});

const options = (overrides: Partial<ExporterOptions> = {}): ExporterOptions => ({
  listen: { host: '127.0.0.1', port: 0 },
  metricsPath: '/metrics',
  metrics: async () => 'm 1\n',
  notReady: () => undefined,
  logger: silentLogger,
  ...overrides,
});

describe('the endpoint', () => {
  test('metrics, health, readiness, and clear answers to everything else', async () => {
    let reason: string | undefined = 'nothing read yet';
    await using exporter = await Exporter.listen(options({ metricsPath: '/gpu', notReady: () => reason }));
    const base = `http://127.0.0.1:${exporter.address!.port}`;
    const get = async (path: string, method = 'GET') => {
      const response = await fetch(`${base}${path}`, { method });
      return [response.status, await response.text()];
    };
    expect(await get('/gpu?x=1')).toEqual([200, 'm 1\n']);
    expect(await get('/healthz')).toEqual([200, 'ok\n']);
    expect(await get('/readyz')).toEqual([503, 'nothing read yet\n']);
    reason = undefined;
    expect(await get('/readyz')).toEqual([200, 'ready\n']);
    expect((await get('/metrics'))[0]).toBe(404);
    expect((await get('/gpu', 'POST'))[0]).toBe(405);
    expect(await get('/gpu', 'HEAD')).toEqual([200, '']);
  });

  test('a port that is taken moves on to the next, and two that are taken stop nothing', async () => {
    // Two neighbouring ports; another process may take the second in between, so look for a pair that is free.
    for (let attempt = 0; ; attempt++) {
      await using first = await Exporter.listen(options());
      const listen = { host: '127.0.0.1', port: first.address!.port };
      await using second = await Exporter.listen(options({ listen }));
      if (second.address === undefined && attempt < 20) continue;
      expect(second.address!.port).toBe(listen.port + 1);
      await using third = await Exporter.listen(options({ listen }));
      expect(third.address).toBeUndefined();
      return;
    }
  });
});
