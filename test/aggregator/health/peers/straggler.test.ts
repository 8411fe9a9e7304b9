import { describe, expect, it } from 'vitest';
import { IDLE, PeerBed } from './peer-bed.ts';

const CLOCK = 'gpu_clock_hertz{domain="sm"}';

// What an operator would lose: a training job of a thousand GPUs is as slow as the one that nobody names.
describe('one of eight differs', () => {
  it('names the GPU that is slower and the metric that tells', () => {
    const bed = new PeerBed().run(40);
    bed.gpus[4]!.set = { smMegahertz: 1386 };
    for (const gpu of bed.gpus) if (gpu.slot !== 4) gpu.set = { watts: 480, tensorActive: 0.36 };
    bed.run(6);
    expect(bed.unusual).toEqual(['n0-4']);
    expect(bed.signals(4)[0]).toBe(CLOCK);
    expect(bed.watch.findingsOf('n0-4')[0]).toMatchObject({ detector: 'straggler' });
  });

  it('names the rank whose steps take longer where nothing else tells', () => {
    const bed = new PeerBed();
    for (const gpu of bed.gpus) gpu.set = { stepSeconds: 4 };
    bed.run(40);
    bed.gpus[0]!.set = { stepSeconds: 5 };
    expect(bed.run(6).signals(0)).toEqual(['training_step_seconds']);
  });

  it('names the one that stopped while its job goes on', () => {
    const bed = new PeerBed().run(40);
    bed.gpus[7]!.set = { ...IDLE };
    bed.run(8);
    expect(bed.signals(7)).toContain('gpu_utilization_ratio');
    expect(bed.unusual).toEqual(['n0-7']);
  });

  it('not before it has lasted, as long as the option says', () => {
    const bed = new PeerBed(1, { persistMs: 600_000 }).run(40);
    bed.gpus[4]!.set = { smMegahertz: 1386 };
    expect(bed.run(10).unusual).toEqual([]);
    expect(bed.run(3).unusual).toEqual(['n0-4']);
  });
});

describe('no straggler', () => {
  it('a GPU that the job never used', () => {
    const bed = new PeerBed();
    bed.gpus[7]!.set = { ...IDLE };
    expect(bed.run(60).unusual).toEqual([]);
  });

  it('two jobs on one node, known or not', () => {
    for (const labelled of [true, false]) {
      const bed = new PeerBed();
      for (const gpu of bed.gpus) {
        const second = gpu.slot >= 6;
        gpu.job = labelled ? (second ? 'two' : 'one') : '';
        if (second)
          gpu.set = { smMegahertz: 1600, watts: 400, coreCelsius: 50, memoryCelsius: 56, tensorActive: 0.2 };
      }
      expect(bed.run(90).unusual).toEqual([]);
    }
  });

  it('a rank that has more to do than the others from the start of its job', () => {
    const bed = new PeerBed();
    bed.gpus[0]!.set = { watts: 640, tensorActive: 0.54, linkBytesPerSecond: 0.92e11, memoryUsed: 0.88 };
    bed.run(90);
    expect(bed.unusual).toEqual([]);
  });

  it('noise that goes from one to the next', () => {
    const bed = new PeerBed();
    bed.run(120, (round) => {
      for (const gpu of bed.gpus)
        gpu.set = Math.floor(round / 4) % 8 === gpu.slot ? { smMegahertz: 1700, coreCelsius: 70 } : {};
    });
    expect(bed.unusual).toEqual([]);
  });

  it('a checkpoint at which all of them pause', () => {
    const bed = new PeerBed();
    bed.run(120, (round) => {
      for (const gpu of bed.gpus)
        gpu.set =
          round % 20 === gpu.slot % 2 ? { ...IDLE, utilisation: 0.12, coreCelsius: 50, clockReasons: 0 } : {};
    });
    expect(bed.unusual).toEqual([]);
  });
});
