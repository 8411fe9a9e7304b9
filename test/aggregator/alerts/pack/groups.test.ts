import { describe, expect, test } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import { blockOf, dictionaryOf, gpuLabels, series } from '../block-of.ts';
import { PACK, PackRun } from './pack-run.ts';

const STEP_MS = 10_000;
const NODES: readonly Source[] = ['n1', 'n2', 'n3'].map((node) => ({
  cluster: 'c',
  node,
  externalLabels: [],
}));
const GROUPS = Object.fromEntries(
  NODES.map(({ node }) => [node, { rack: [node === 'n3' ? 'r2' : 'r1'], pool: ['train'], switch: ['s1'] }]),
);
const GPUS = [0, 1, 2, 3, 4, 5, 6, 7];

/** A GPU is one by its UUID, wherever it is. */
function dictionaryFor(node: string) {
  const labels = (gpu: number, more: Readonly<Record<string, string>>) =>
    gpuLabels(gpu, { ...more, uuid: `GPU-${node}-${gpu}` });
  return dictionaryOf(
    [
      series('gpufleet_node_up', []),
      ...GPUS.map((gpu) => series('gpu_temperature_celsius', labels(gpu, { sensor: 'core' }))),
      ...GPUS.map((gpu) => ({
        ...series('gpu_clock_event_seconds_total', labels(gpu, { reason: 'hw_power_brake' })),
        kind: 'counter' as const,
      })),
    ],
    STEP_MS,
  );
}

/** Three nodes of eight GPUs, two in rack r1 and one in r2, with what makes their limits. */
class Rack {
  readonly run = new PackRun(GROUPS);
  /** By node and GPU: degrees of the core, seconds of power brake in each step. */
  readonly celsius = new Map<string, number>();
  readonly brake = new Map<string, number>();
  readonly down = new Set<string>();
  readonly #total = new Map<string, number>();
  readonly #dictionaries = new Map(NODES.map(({ node }) => [node, dictionaryFor(node)]));

  pass(minutes: number): void {
    for (let step = 0; step < (minutes * 60_000) / STEP_MS; step++) {
      for (const source of NODES) this.run.block(source, this.#block(source));
      this.run.pass(STEP_MS);
    }
  }

  health(source: Source, gpu: number, from: string, to: string): void {
    const attributes = { from, to };
    const event = { type: 'health_state', timestampMs: this.run.clock.ms, text: to, attributes };
    this.run.event(source, { ...event, gpu: String(gpu), gpuUuid: `GPU-${source.node}-${gpu}` });
  }

  /** Of the rules about groups. */
  get lines(): string[] {
    return this.run.told
      .filter(({ node }) => node === '')
      .map(({ rule, key, severity, fired, resolved }) => `${rule} ${key} ${severity} ${fired}/${resolved}`);
  }

  #block(source: Source) {
    const { node } = source;
    const values = [
      this.down.has(node) ? 0 : 1,
      ...GPUS.map((gpu) => this.celsius.get(`${node}/${gpu}`) ?? 60),
    ];
    for (const gpu of GPUS) {
      const key = `${node}/${gpu}`;
      this.#total.set(key, (this.#total.get(key) ?? 0) + (this.brake.get(key) ?? 0));
      values.push(this.#total.get(key)!);
    }
    return blockOf(this.#dictionaries.get(node)!, this.run.clock.ms, values, { source });
  }
}

// Lost without it: a PDU that fails is forty alerts of forty GPUs, and nobody sees that it is one.
describe('the shipped rules about groups', () => {
  test('more than three critical GPUs of a rack are one alert of the rack, until three are left', () => {
    const rack = new Rack();
    rack.pass(3);
    for (const gpu of [0, 1, 2]) rack.health(NODES[0]!, gpu, 'healthy', 'critical');
    rack.health(NODES[2]!, 0, 'healthy', 'critical');
    rack.pass(2);
    expect(rack.lines.filter((line) => line.startsWith('rack-'))).toEqual([]);
    rack.health(NODES[1]!, 5, 'healthy', 'critical');
    rack.pass(2);
    expect(rack.lines).toContain('rack-gpus-critical rack=r1 critical 1/0');
    rack.health(NODES[0]!, 1, 'critical', 'healthy');
    rack.pass(7);
    expect(rack.lines).toContain('rack-gpus-critical rack=r1 critical 1/1');
    expect(rack.lines.join()).not.toContain('r2');
  });

  test('more than a tenth of a pool critical is one alert of the pool', () => {
    const rack = new Rack();
    rack.pass(3);
    // Two of 24 are less than a tenth.
    for (const node of [0, 2]) rack.health(NODES[node]!, 0, 'healthy', 'critical');
    rack.pass(1);
    expect(rack.lines).toEqual([]);
    rack.health(NODES[1]!, 0, 'healthy', 'critical');
    rack.pass(1);
    expect(rack.lines).toEqual(['pool-gpus-critical pool=train critical 1/0']);
    rack.health(NODES[1]!, 0, 'critical', 'healthy');
    rack.pass(7);
    expect(rack.lines).toEqual(['pool-gpus-critical pool=train critical 1/1']);
  });

  test('one GPU under power brake is its own, two of a rack are the power of the rack', () => {
    const rack = new Rack();
    rack.brake.set('n1/0', 10);
    rack.pass(15);
    expect(rack.lines).toEqual([]);
    rack.brake.set('n2/3', 10);
    rack.pass(3);
    expect(rack.lines).toEqual(['rack-power-brake rack=r1 critical 1/0']);
    rack.brake.clear();
    rack.pass(20);
    expect(rack.lines).toEqual(['rack-power-brake rack=r1 critical 1/1']);
  });

  test('hot GPUs of a rack are its cooling', () => {
    const rack = new Rack();
    rack.pass(1);
    for (const gpu of [0, 1, 2, 3]) rack.celsius.set(`n3/${gpu}`, 92);
    rack.pass(1);
    expect(rack.lines).toEqual(['rack-hot rack=r2 critical 1/0']);
    rack.celsius.clear();
    rack.pass(6);
    expect(rack.lines).toEqual(['rack-hot rack=r2 critical 1/1']);
  });

  test('nodes of a rack that are down are its power or switch', () => {
    const rack = new Rack();
    rack.pass(1);
    rack.down.add('n1');
    rack.down.add('n3');
    rack.pass(2);
    expect(rack.lines).toEqual([]);
    rack.down.add('n2');
    rack.pass(2);
    expect(rack.lines).toEqual(['rack-nodes-down rack=r1 critical 1/0']);
    rack.down.clear();
    rack.pass(1);
    expect(rack.lines).toEqual(['rack-nodes-down rack=r1 critical 1/1']);
  });

  test('nodes of a switch that lost their links are the switch', () => {
    const rack = new Rack();
    rack.pass(1);
    const link = (node: number, type: string) => {
      const event = { type, timestampMs: rack.run.clock.ms, gpu: '', gpuUuid: '', text: type };
      rack.run.event(NODES[node]!, { ...event, attributes: { device: 'mlx5_0', port: '1' } });
    };
    for (const node of [0, 1, 2]) link(node, 'link_down');
    rack.pass(1);
    expect(rack.lines).toEqual(['switch-links-down switch=s1 critical 1/0']);
    for (const node of [0, 1]) link(node, 'link_up');
    rack.pass(1);
    expect(rack.lines).toEqual(['switch-links-down switch=s1 critical 1/1']);
  });

  test('are all tested', () => {
    const names = PACK.filter(({ kind }) => kind === 'aggregate').map(({ name }) => name);
    expect(names.sort()).toEqual([
      'pool-gpus-critical',
      'rack-gpus-critical',
      'rack-hot',
      'rack-nodes-down',
      'rack-power-brake',
      'switch-links-down',
    ]);
  });
});
