import { describe, expect, test } from 'vitest';
import type { Collector, Reading } from '../../../../agent/collect/collector.ts';
import { createTrainingCollector } from '../../../../agent/collect/simulated/training-collector.ts';
import { SlotState } from '../../../../shared/model/slot-state.ts';
import { Simulation } from './simulation.ts';

/** A simulated node and what its job says, read together. */
class TrainingNode {
  readonly simulation: Simulation;
  readonly training: Collector;
  last!: Reading;

  constructor(options: ConstructorParameters<typeof Simulation>[0] = {}) {
    this.simulation = new Simulation({ load: 'steady', ...options });
    const { machine } = this.simulation.collector;
    const now = () => this.simulation.now;
    this.training = createTrainingCollector({ machine, intervalMs: 1000, clock: { now, monotonic: now } });
  }

  async read(afterSeconds: number): Promise<void> {
    await this.simulation.read(afterSeconds);
    this.last = await this.training.collect(new AbortController().signal);
  }

  async run(reads: number, seconds = 1, each: () => void = () => undefined): Promise<void> {
    for (let i = 0; i < reads; i++) {
      await this.read(seconds);
      each();
    }
  }

  value(name: string): number {
    const slot = this.last.dictionary.series.findIndex((one) => one.name === name);
    return this.last.states[slot] === SlotState.Present ? this.last.values[slot]! : Number.NaN;
  }

  jobs(): string[] {
    const { dictionary, states } = this.last;
    return dictionary.series
      .filter(({ name }, slot) => name === 'gpu_job_info' && states[slot] === SlotState.Present)
      .map(({ labels }) => Object.fromEntries(labels))
      .map(({ gpu, job }) => `${gpu} ${job}`);
  }
}

const mean = (all: readonly number[]) => all.reduce((sum, one) => sum + one, 0) / all.length;

describe('what a job says of itself', () => {
  // Lost without it: a dashboard of a training has a curve that no training has.
  test('its loss falls, its tokens grow by its throughput, its loader has batches', async () => {
    const node = new TrainingNode();
    await node.read(0);
    await node.run(200);
    const tokens = node.value('training_tokens_total');
    const losses: number[] = [];
    let taken = 0;
    await node.run(3000, 1, () => {
      losses.push(node.value('training_loss'));
      taken += node.value('training_tokens_per_second');
      expect(node.value('training_queue_depth')).toBeGreaterThanOrEqual(0);
      expect(node.value('training_queue_depth')).toBeLessThanOrEqual(64);
    });
    expect(mean(losses.slice(-100))).toBeLessThan(0.8 * mean(losses.slice(0, 100)));
    expect(mean(losses.slice(-100))).toBeGreaterThan(1.9);
    expect((node.value('training_tokens_total') - tokens) / taken).toBeCloseTo(1, 4);
    expect(node.value('training_steps')).toBeGreaterThan(100);
  });

  // Lost without it: a pause for a checkpoint cannot be told from one for a fault.
  test('a checkpoint stops it for its seconds, is counted, and its age begins anew', async () => {
    const node = new TrainingNode();
    await node.read(0);
    let pause = 0;
    await node.run(4000, 1, () => {
      const stands = node.value('training_tokens_per_second') === 0;
      if (node.value('training_checkpoints_total') === 0 && stands) pause++;
    });
    expect(node.value('training_checkpoints_total')).toBeGreaterThanOrEqual(2);
    expect(node.value('training_checkpoint_seconds')).toBeGreaterThan(14);
    expect(node.value('training_checkpoint_seconds')).toBeLessThan(46);
    expect(pause).toBeGreaterThan(14);
    expect(node.value('training_checkpoint_age_seconds')).toBeLessThan(1900);
    expect(node.value('training_restarts_total')).toBe(0);
  });

  // Lost without it: a lost GPU costs a job nothing, where it costs everything since the last checkpoint.
  test('it hangs while a GPU is lost, and goes on from its last checkpoint', async () => {
    const node = new TrainingNode();
    await node.read(0);
    await node.run(1000);
    const steps = node.value('training_steps');
    node.simulation.collector.inject({ kind: 'off_the_bus', gpu: 2, duration: 60_000 });
    await node.run(2);
    await node.run(57, 1, () => expect(node.value('training_tokens_per_second')).toBe(0));
    await node.run(10);
    expect(node.value('training_restarts_total')).toBe(1);
    expect(node.value('training_steps')).toBeLessThan(steps);
    expect(node.value('training_tokens_per_second')).toBeGreaterThan(0);
  });

  // Lost without it: a slow GPU costs its node nothing, and nobody would look for it.
  test('it is as slow as its slowest GPU', async () => {
    const node = new TrainingNode();
    await node.read(0);
    await node.run(300);
    const speed = async (): Promise<number> => {
      const all: number[] = [];
      await node.run(100, 1, () => all.push(node.value('training_tokens_per_second')));
      return mean(all);
    };
    const before = await speed();
    node.simulation.collector.inject({ kind: 'straggler', gpu: 1 });
    await node.run(5);
    expect((await speed()) / before).toBeCloseTo(0.7, 1);
  });
});

describe('who has the GPUs', () => {
  // Lost without it: a new job makes new series of everything, or nobody knows whose the GPUs are.
  test('gpu_job_info follows the job; the other series stay the same and are absent without one', async () => {
    const node = new TrainingNode();
    await node.read(0);
    expect(node.jobs()).toEqual([]);
    expect(node.value('training_loss')).toBeNaN();
    await node.run(30);
    expect(node.jobs()).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((gpu) => `${gpu} train-0001`));
    const names = () =>
      node.last.dictionary.series.filter(({ name }) => name !== 'gpu_job_info').map(({ name }) => name);
    const before = names();
    node.simulation.collector.inject({ kind: 'job_start' });
    await node.run(1);
    expect(node.jobs()).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((gpu) => `${gpu} train-0002`));
    expect(names()).toEqual(before);
    node.simulation.collector.inject({ kind: 'job_stop', duration: 20_000 });
    await node.run(2);
    expect(node.jobs()).toEqual([]);
    expect(node.value('training_tokens_total')).toBeNaN();
  });

  // Lost without it: the same seed shows another job to the next person.
  test('the same seed gives the same training', async () => {
    const [first, second] = [new TrainingNode(), new TrainingNode()];
    for (const node of [first, second]) await node.run(1500, 7);
    expect(first.last.values).toEqual(second.last.values);
    expect(first.last.dictionary.hash).toBe(second.last.dictionary.hash);
  });
});

describe('the pattern of the load', () => {
  const jobsOfADay = async (load: 'jobs' | 'steady' | 'bursty'): Promise<number> => {
    const node = new TrainingNode({ load });
    const jobs = new Set<string>();
    await node.run(2880, 30, () => {
      for (const job of node.jobs()) jobs.add(job.split(' ')[1]!);
    });
    return jobs.size;
  };

  // Lost without it: a setting that changes nothing.
  test('steady is one job a day, jobs some, bursty many', async () => {
    expect(await jobsOfADay('steady')).toBe(1);
    const some = await jobsOfADay('jobs');
    expect(some).toBeGreaterThan(3);
    expect(some).toBeLessThan(20);
    expect(await jobsOfADay('bursty')).toBeGreaterThan(80);
  });

  // Lost without it: capacity that is planned over a day is tried on a flat line.
  test('diurnal is highest in the afternoon and lowest at night, by the wall clock', async () => {
    const node = new TrainingNode({ load: 'diurnal' });
    const byHour: number[][] = Array.from({ length: 24 }, () => []);
    await node.run(4 * 1440, 30, () => {
      const hour = new Date(node.simulation.now).getUTCHours();
      byHour[hour]!.push(node.simulation.value(0, 'gpu_sm_active_ratio'));
    });
    const hours = byHour.map(mean);
    expect(hours[15]! / hours[3]!).toBeGreaterThan(3);
    expect(hours.indexOf(Math.max(...hours))).toBeGreaterThanOrEqual(13);
    expect(hours.indexOf(Math.max(...hours))).toBeLessThanOrEqual(16);
  });
});
