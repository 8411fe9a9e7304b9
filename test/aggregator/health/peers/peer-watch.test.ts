import { describe, expect, it } from 'vitest';
import { METRICS } from '../../../../aggregator/health/peers/peer-metrics.ts';
import { IDLE, PeerBed, ROUND_MS } from './peer-bed.ts';

const CORE = 'gpu_temperature_celsius{sensor="core"}';
const CLOCK = 'gpu_clock_hertz{domain="sm"}';

describe('a GPU beside its peers', () => {
  it('is hot: found after four minutes and not before, with what was expected, and over when it cooled', () => {
    const bed = new PeerBed().run(40);
    expect(bed.unusual).toEqual([]);
    bed.gpus[3]!.set = { coreCelsius: 75 };
    bed.run(3.5);
    expect(bed.unusual).toEqual([]);
    bed.run(2);
    expect(bed.unusual).toEqual(['n0-3']);
    const [finding] = bed.watch.findingsOf('n0-3');
    expect(finding).toMatchObject({ detector: 'peer', signal: CORE });
    expect(finding!.value).toBeCloseTo(75, 0);
    expect(finding!.expected).toBeCloseTo(60, 0);
    expect(finding!.strength).toBeGreaterThan(1);
    bed.gpus[3]!.set = {};
    bed.run(20);
    expect(bed.unusual).toEqual([]);
  });

  it('slot heat: a row of eight that always rises to the rear is no finding, 12 degrees more in the rear are one', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus) gpu.set = { coreCelsius: 57 + gpu.slot * 0.8 };
    bed.run(180);
    expect(bed.unusual).toEqual([]);
    bed.gpus[7]!.set = { coreCelsius: 57 + 7 * 0.8 + 9 };
    bed.run(10);
    expect(bed.unusual).toEqual(['n0-7']);
  });

  it('a fault that was there from the start is not learned as how the board is', () => {
    const bed = new PeerBed();
    bed.gpus[2]!.set = { coreCelsius: 80 };
    bed.run(240);
    expect(bed.unusual).toEqual(['n0-2']);
  });

  it('two hot ones of eight that draw more are not hot', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus.slice(6)) gpu.set = { coreCelsius: 68, watts: 695 };
    for (const gpu of bed.gpus) gpu.job = '';
    expect(bed.run(60).unusual).toEqual([]);
  });

  it('counts corrected errors by the hour, and a counter that begins anew is no burst', () => {
    const bed = new PeerBed();
    let errors = 3;
    bed.run(30);
    bed.run(15, () => {
      errors += 15;
      bed.gpus[1]!.set = { correctedErrors: errors };
      bed.gpus[5]!.set = { correctedErrors: 0 };
    });
    expect(bed.unusual).toEqual(['n0-1']);
    expect(bed.signals(1)).toEqual(['gpu_ecc_errors_total{type="corrected"}']);
  });

  it('lanes that are missing are seen on several at once', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus.slice(0, 2)) gpu.set = { pcieLanes: 8 };
    expect(bed.run(10).unusual).toEqual(['n0-0', 'n0-1']);
  });

  it('one wild reading every few minutes is no finding', () => {
    const bed = new PeerBed();
    bed.run(120, (round) => {
      bed.gpus[4]!.set = round % 9 === 0 ? { coreCelsius: 0, watts: 2000, smMegahertz: 0 } : {};
    });
    expect(bed.unusual).toEqual([]);
  });
});

describe('who the peers are', () => {
  it('without enough of its node, a GPU is compared with its slot elsewhere', () => {
    const bed = new PeerBed(6);
    // One GPU left in each node.
    for (const gpu of bed.gpus) {
      gpu.present = gpu.slot === 3;
      gpu.job = '';
    }
    bed.run(40);
    bed.gpus[3]!.set = { coreCelsius: 80 };
    expect(bed.run(8).unusual).toEqual(['n0-3']);
  });

  it('with under 60 % of a group heard nothing is said of it: a remnant is no measure', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus) gpu.job = '';
    bed.run(40);
    for (const gpu of bed.gpus.slice(4)) gpu.present = false;
    bed.gpus[0]!.set = { coreCelsius: 80 };
    bed.run(10);
    expect(bed.unusual).toEqual([]);
    bed.gpus[4]!.present = true;
    expect(bed.run(8).unusual).toEqual(['n0-0']);
  });

  it('three GPUs have no peers', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus.slice(3)) gpu.present = false;
    bed.gpus[0]!.set = { coreCelsius: 85, smMegahertz: 900 };
    expect(bed.run(20).unusual).toEqual([]);
  });

  it('a job over many nodes is one group, also where it is larger than one comparison', () => {
    const bed = new PeerBed(40, { maxGpus: 320 });
    for (const gpu of bed.gpus) gpu.job = 'big';
    bed.run(20);
    bed.gpus[301]!.set = { smMegahertz: 1300 };
    expect(bed.run(8).unusual).toEqual([bed.gpus[301]!.uuid]);
  });
});

describe('facts for the score', () => {
  it('gives ratios and z of the last round, and nothing that nobody knows', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus) gpu.set = { stepSeconds: 4 };
    bed.run(40);
    bed.gpus[6]!.set = { smMegahertz: 1386, stepSeconds: 5, coreCelsius: 70 };
    bed.run(8);
    const facts = bed.watch.factsOf('n0-6');
    expect(facts.clockRatio).toBeCloseTo(0.7, 1);
    expect(facts.stepTimeRatio).toBeCloseTo(1.25, 1);
    expect(facts.temperatureZ).toBeGreaterThan(5);
    expect(facts).not.toHaveProperty('idlePowerZ');
    expect(facts).not.toHaveProperty('failureProbabilityRatio');
    expect(bed.watch.factsOf('somebody')).toEqual({});
    expect(Math.abs(bed.watch.factsOf('n0-0').clockRatio! - 1)).toBeLessThan(0.02);
  });

  it('power without work is compared among idle GPUs', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus) {
      gpu.job = '';
      gpu.set = { ...IDLE };
    }
    bed.run(40);
    bed.gpus[1]!.set = { ...IDLE, watts: 120 };
    bed.run(8);
    expect(bed.watch.factsOf('n0-1').idlePowerZ).toBeGreaterThan(5);
    expect(bed.unusual).toEqual(['n0-1']);
  });

  it('work for each watt is told against the job, once six hours have shown what is usual', () => {
    const bed = new PeerBed().run(750);
    bed.gpus[2]!.set = { watts: 660 };
    bed.run(240);
    expect(bed.watch.factsOf('n0-2').perfPerWattResidual).toBeCloseTo(-0.09, 1);
    expect(Math.abs(bed.watch.factsOf('n0-1').perfPerWattResidual!)).toBeLessThan(0.02);
  });

  // Siblings of a lost GPU spin in the collective: busy, without work. They are as good as before.
  it('those that wait for a lost GPU are not called inefficient', () => {
    const bed = new PeerBed().run(750);
    bed.gpus[0]!.present = false;
    for (const gpu of bed.gpus.slice(1)) gpu.set = { watts: 70, tensorActive: 0 };
    bed.run(20);
    expect(bed.watch.factsOf('n0-2').perfPerWattResidual).toBeUndefined();
  });

  it('a GPU that fell silent has no facts of the past', () => {
    const bed = new PeerBed().run(20);
    bed.gpus[0]!.present = false;
    bed.run(5);
    expect(bed.watch.factsOf('n0-0').temperatureZ).toBeUndefined();
  });

  it("knows the fleet's corrected errors once a summary of all shards is set", () => {
    const bed = new PeerBed(4).run(10);
    expect(bed.watch.factsOf('n0-0').correctedEccFleetP99PerDay).toBeUndefined();
    bed.watch.setFleet(bed.watch.summary());
    expect(bed.watch.factsOf('n0-0').correctedEccFleetP99PerDay).toBe(0);
  });
});

describe('limits', () => {
  it('takes no more GPUs than it was made for, counts the others, and has room again when some were silent', () => {
    const bed = new PeerBed(2, { maxGpus: 8 }).run(2);
    expect(bed.watch.gpus).toBe(8);
    expect(bed.watch.refused).toBe(4 * 8);
    for (const gpu of bed.gpus.slice(0, 8)) gpu.present = false;
    bed.run(70);
    expect(bed.watch.gpus).toBe(8);
    bed.gpus[8]!.set = { coreCelsius: 85 };
    expect(bed.run(10).unusual).toEqual(['n1-0']);
  });

  it('a pause persists nothing: a finding needs four minutes of rows', () => {
    const bed = new PeerBed().run(40);
    bed.gpus[3]!.set = { coreCelsius: 80 };
    bed.run(1.5);
    bed.nowMs += 240_000 - ROUND_MS;
    bed.run(0.5);
    expect(bed.unusual).toEqual([]);
  });

  it('gives deviations for the row detectors, in floors', () => {
    const bed = new PeerBed().run(40);
    bed.gpus[3]!.set = { coreCelsius: 72 };
    bed.run(5);
    const row = {
      deviations: new Float64Array(METRICS),
      values: new Float64Array(METRICS),
      expected: new Float64Array(METRICS),
    };
    expect(bed.watch.deviationsOf('n0-3', row)).toBe(true);
    expect(row.deviations[0]).toBeGreaterThan(10);
    expect(row.values[0]! - row.expected[0]!).toBeCloseTo(row.deviations[0]!, 3);
    expect(bed.watch.deviationsOf('nobody', row)).toBe(false);
  });
});

describe('clocks that somebody set', () => {
  it('a GPU at its power limit or with application clocks is no straggler', () => {
    for (const clockReasons of [0x2, 0x4]) {
      const bed = new PeerBed().run(40);
      bed.gpus[5]!.set = { smMegahertz: 1200, clockReasons };
      expect(bed.run(20).signals(5)).not.toContain(CLOCK);
    }
  });
});
