import { describe, expect, test } from 'vitest';
import type { FleetEvent } from '#shared/model/event.ts';
import { EventArbiter } from '../../agent/event-arbiter.ts';

const event = (type: string, gpuUuid = 'GPU-1', attributes: Record<string, string> = {}): FleetEvent => ({
  type,
  timestampMs: 1,
  gpu: '0',
  gpuUuid,
  text: type,
  attributes,
});

// Lost without it: one GPU that falls off the bus is three incidents, three alerts, and counted three times.
describe('what several sources see is told once', () => {
  test('an Xid by the kernel log while it reads, else by who has it', () => {
    let reading = true;
    const arbiter = new EventArbiter((source) => reading && source === 'kernel-log');
    expect(arbiter.admits('kernel-log', event('xid'))).toBe(true);
    expect(arbiter.admits('dcgm-exporter', event('xid'))).toBe(false);
    reading = false;
    expect(arbiter.admits('dcgm-exporter', event('xid'))).toBe(true);
  });

  test('a GPU that is lost and comes back, by who saw it first; each time anew, each GPU for itself', () => {
    const arbiter = new EventArbiter(() => true);
    const tell = (source: string, type: string, uuid?: string) => arbiter.admits(source, event(type, uuid));
    for (let round = 0; round < 3; round++) {
      expect(tell('kernel-log', 'gpu_lost')).toBe(true);
      expect(tell('nvml', 'gpu_lost')).toBe(false);
      expect(tell('dcgm-exporter', 'gpu_back')).toBe(true);
      expect(tell('nvml', 'gpu_back')).toBe(false);
    }
    expect(tell('nvml', 'gpu_lost', 'GPU-2')).toBe(true);
  });

  // Lost without it: a GPU whose return nobody saw, as after a pause, can never be lost again.
  test('a GPU that is lost again much later is news, though nobody said that it was back', () => {
    const arbiter = new EventArbiter(() => true);
    const lostAt = (source: string, timestampMs: number) =>
      arbiter.admits(source, { ...event('gpu_lost'), timestampMs });
    expect(lostAt('kernel-log', 1_000_000)).toBe(true);
    expect(lostAt('nvml', 1_000_000 + 60_000)).toBe(false);
    expect(lostAt('nvml', 1_000_000 + 3_600_000)).toBe(true);
    expect(lostAt('kernel-log', 1_000_000 + 3_601_000)).toBe(false);
  });

  test('a GPU that is back after a restart of the agent is news, and one that nobody can name always is', () => {
    const arbiter = new EventArbiter(() => true);
    expect(arbiter.admits('nvml', event('gpu_back'))).toBe(true);
    const unnamed = { ...event('gpu_lost', ''), gpu: '' };
    expect(arbiter.admits('kernel-log', unnamed)).toBe(true);
    expect(arbiter.admits('kernel-log', unnamed)).toBe(true);
  });

  test('made-up names do not fill memory, and are all told', () => {
    const arbiter = new EventArbiter(() => true);
    for (let i = 0; i < 1000; i++) expect(arbiter.admits('nvml', event('gpu_lost', `GPU-${i}`))).toBe(true);
  });
});
