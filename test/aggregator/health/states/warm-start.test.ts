import { describe, expect, it } from 'vitest';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { HealthStateMachine } from '../../../../aggregator/health/state-machine.ts';
import { parseWarmStart, warmStartQueries } from '../../../../aggregator/health/states/warm-start.ts';
import { startVictoriaMetrics, type VictoriaMetricsServer } from '../../../support/victoria-metrics.ts';

const { HEALTHY, DEGRADED, CRITICAL, UNKNOWN, FLAPPING } = HealthState;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

interface Stored {
  readonly uuid: string;
  readonly state: HealthState;
  readonly score: number;
  readonly agoMs: number;
  readonly node?: string;
}

function lines(nowMs: number, all: readonly Stored[]): string {
  return all
    .map(({ uuid, state, score, agoMs, node = 'n0' }) => {
      const labels = `cluster="east",node="${node}",gpu="0",uuid="${uuid}",model="H100"`;
      const at = nowMs - agoMs;
      return [
        `gpufleet_health_score{dimension="all",${labels}} ${score} ${at}`,
        `gpufleet_health_score{dimension="memory",${labels}} 1 ${at}`,
        `gpufleet_health_state{${labels}} ${state} ${at}`,
      ].join('\n');
    })
    .join('\n');
}

async function ask(store: VictoriaMetricsServer) {
  const get = async (query: string): Promise<unknown> => {
    const answer = await fetch(`${store.url}/api/v1/query?nocache=1&query=${encodeURIComponent(query)}`);
    return answer.json();
  };
  const { score, state, atSeconds } = warmStartQueries('24h');
  return { score: await get(score), state: await get(state), atSeconds: await get(atSeconds) };
}

describe('a warm start from the store', () => {
  it('knows the last state of each GPU: a hand-over to a machine with an empty disk drains nothing anew', async () => {
    await using store = await startVictoriaMetrics();
    const nowMs = Date.now();
    await store.importText(
      lines(nowMs, [
        { uuid: 'GPU-good', state: HEALTHY, score: 97.5, agoMs: 10 * MINUTE_MS },
        { uuid: 'GPU-worse', state: HEALTHY, score: 90, agoMs: 20 * MINUTE_MS },
        { uuid: 'GPU-worse', state: DEGRADED, score: 71, agoMs: 10 * MINUTE_MS },
        { uuid: 'GPU-lost', state: CRITICAL, score: 10, agoMs: 20 * HOUR_MS },
        { uuid: 'GPU-slow', state: CRITICAL, score: 42, agoMs: 10 * MINUTE_MS },
        { uuid: 'GPU-flap', state: FLAPPING, score: 90, agoMs: 10 * MINUTE_MS },
        { uuid: 'GPU-unknown', state: UNKNOWN, score: 90, agoMs: 10 * MINUTE_MS },
        { uuid: 'GPU-old', state: CRITICAL, score: 10, agoMs: 25 * HOUR_MS },
        { uuid: 'GPU-moved', state: CRITICAL, score: 10, agoMs: 5 * HOUR_MS, node: 'n1' },
        { uuid: 'GPU-moved', state: HEALTHY, score: 99, agoMs: HOUR_MS, node: 'n0' },
      ]),
    );
    await store.flush();
    const gpus = parseWarmStart(await ask(store), nowMs);
    const machines = Object.fromEntries(gpus.map(({ uuid, machine }) => [uuid, machine]));
    expect(machines).toEqual({
      'GPU-good': { state: HEALTHY },
      'GPU-worse': { state: DEGRADED },
      'GPU-lost': { state: CRITICAL, staleSinceMs: nowMs - 20 * HOUR_MS, owesClearing: true },
      'GPU-slow': { state: CRITICAL, staleSinceMs: nowMs - 10 * MINUTE_MS },
      'GPU-flap': { state: DEGRADED, pinnedUntilMs: nowMs - 10 * MINUTE_MS + 24 * HOUR_MS },
      'GPU-moved': { state: HEALTHY },
    });
    expect(gpus.find(({ uuid }) => uuid === 'GPU-worse')).toMatchObject({
      ...{ cluster: 'east', node: 'n0', gpu: '0', model: 'H100', score: 71, atMs: nowMs - 10 * MINUTE_MS },
    });

    // Silent for what is left of its day, and no longer.
    const machine = new HealthStateMachine();
    machine.restore(machines['GPU-lost']!);
    const silent = { score: Number.NaN, cap: undefined, confidence: 0, fresh: false };
    expect(machine.step(silent, nowMs + 4 * HOUR_MS - MINUTE_MS)).toBeUndefined();
    expect(machine.step(silent, nowMs + 4 * HOUR_MS)).toMatchObject({ to: UNKNOWN });
  });

  it('begins with nothing where the store is empty', async () => {
    await using store = await startVictoriaMetrics();
    expect(parseWarmStart(await ask(store), Date.now())).toEqual([]);
  });

  it.each([
    null,
    'x',
    {},
    { status: 'error', error: 'out of memory' },
    { status: 'success', data: { result: 1 } },
  ])('says so where the store gave no answer: %j', (answer) => {
    const none = { status: 'success', data: { result: [] } };
    expect(() => parseWarmStart({ score: none, state: answer, atSeconds: none }, 0)).toThrow(
      /from the store/,
    );
  });

  it('leaves out series that make no sense, and reads the rest', () => {
    const result = [
      null,
      { metric: { uuid: 'GPU-a', node: 'n0' } },
      { metric: { uuid: 'GPU-b', node: 'n0' }, value: [1000, 'NaN'] },
      { metric: { uuid: 'GPU-c', node: 'n0' }, value: [1000, '9'] },
      { metric: { uuid: 'GPU-d', node: 'n0' }, value: [1000, '1'] },
    ];
    const times = { metric: { uuid: 'GPU-d', node: 'n0' }, value: [1000, '990'] };
    const answer = (list: unknown[]) => ({ status: 'success', data: { resultType: 'vector', result: list } });
    const gpus = parseWarmStart(
      { score: answer([]), state: answer(result), atSeconds: answer([times]) },
      1_000_000,
    );
    expect(gpus).toMatchObject([{ uuid: 'GPU-d', score: Number.NaN, atMs: 990_000 }]);
  });
});
