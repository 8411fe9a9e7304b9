import { describe, expect, test } from 'vitest';
import { greeting, startNats } from './nats-server.ts';
import { hasNatsServer, hasVictoriaMetrics } from './servers.ts';
import { startVictoriaMetrics } from './victoria-metrics.ts';

// Every test of durability stands on these: a server that forgot its port or its data would hide lost samples.
describe.skipIf(!hasVictoriaMetrics())('the real VictoriaMetrics of the tests', () => {
  test('keeps port and data over a clean restart, and answers again after kill -9', async () => {
    await using server = await startVictoriaMetrics();
    const time = Date.now() - 60_000;
    await server.importText(`gpu_power_watts{gpu="0"} 300.5 ${time}\n`);
    const before = await server.export('gpu_power_watts');
    expect(before).toEqual([
      { metric: { __name__: 'gpu_power_watts', gpu: '0' }, values: [300.5], timestamps: [time] },
    ]);
    await server.restart();
    expect(await server.export('gpu_power_watts')).toEqual(before);
    await server.kill9();
    await expect(server.flush()).rejects.toThrow();
    await server.restart();
    expect(await server.export('gpu_power_watts')).toEqual(before);
  });

  test('says what it inserted, and was given the deduplication that the product asks for', async () => {
    await using server = await startVictoriaMetrics();
    await server.importText('a 1 \nb 2 \n');
    expect(await server.metricSum('vm_rows_inserted_total')).toBe(2);
    expect([...(await server.metrics()).keys()].some((key) => key.includes('dedup.minScrapeInterval'))).toBe(
      true,
    );
  });
});

describe.skipIf(!hasNatsServer())('the real nats-server of the tests', () => {
  test('greets with JetStream on, and again after kill -9 on the same port', async () => {
    await using server = await startNats();
    expect(await greeting(server.port)).toContain('"jetstream":true');
    await server.kill9();
    await expect(greeting(server.port)).rejects.toThrow();
    await server.restart();
    expect(await greeting(server.port)).toContain('"jetstream":true');
  });
});
