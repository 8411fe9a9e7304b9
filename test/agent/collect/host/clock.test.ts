import { chmodSync, utimesSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { chronyTracking } from '../../../../agent/collect/host/chrony.ts';
import { ClockPart } from '../../../../agent/collect/host/clock.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { FakeHost, patient } from '../host-files/fake-host.ts';

const LINE =
  'A29FC87B,162.159.200.123,4,1700000000.123456789,-0.000020390,0.000011000,0.000027000,-12.104,0.001,0.015,0.012900000,0.001200000,64.8,Normal\n';

describe('chronyc -c tracking', () => {
  // Lost without it: a clock that runs off, with the wrong sign or not at all.
  test('gives the offset as how far the clock is ahead, and the bound of its error', () => {
    const tracking = chronyTracking(LINE)!;
    expect(tracking.synchronised).toBe(true);
    expect(tracking.offsetSeconds).toBe(0.00002039);
    expect(tracking.maxErrorSeconds).toBeCloseTo(0.00002039 + 0.0012 + 0.00645, 12);
  });

  test('damaged in 220 ways gives numbers of its line or nothing', () => {
    for (const { what, bytes } of damagedInputs(Buffer.from(LINE), 3)) {
      const text = bytes.toString('latin1');
      const tracking = chronyTracking(text);
      if (tracking === undefined) continue;
      const fields = text.split('\n')[0]!.split(',');
      expect(fields, what).toHaveLength(14);
      expect(-tracking.offsetSeconds, what).toBe(Number(fields[4]));
    }
  });
});

async function read(host: FakeHost, chronyc = '/nonexistent'): Promise<(number | string | undefined)[]> {
  await using part = new ClockPart({
    host: { ...host.paths, proc: '/proc' },
    clock: host.surroundings.clock,
    logger: silentLogger,
    chronyc,
  });
  await part.sample(patient);
  return part.samples.series.map((_, i) => part.samples.valueAt(i));
}

describe('the clock', () => {
  test('of chronyd is asked for with its own tool', async () => {
    await using host = new FakeHost({ 'run/chrony/chronyd.pid': '1' });
    host.write('chronyc', `#!/bin/sh\n[ "$*" = "-c tracking" ] && echo '${LINE.trim()}'`);
    chmodSync(host.path('chronyc'), 0o755);
    const [status, maxError, offset] = await read(host, host.path('chronyc'));
    expect([status, offset]).toEqual([1, 0.00002039]);
    expect(maxError).toBeGreaterThan(0.007);
    host.write('chronyc', `#!/bin/sh\necho '${LINE.trim().replace('Normal', 'Not synchronised')}'`);
    expect(await read(host, host.path('chronyc'))).toEqual([0, undefined, undefined, undefined]);
  });

  // Lost without it: "not synchronised" invented where the tool is missing.
  test('of a chronyd that cannot be asked is not known', async () => {
    await using host = new FakeHost({ 'run/chrony/chronyd.pid': '1' });
    expect(await read(host)).toEqual([undefined, undefined, undefined, undefined]);
  });

  test('of systemd-timesyncd is good as long as it goes on synchronising', async () => {
    await using host = new FakeHost({ 'run/systemd/timesync/synchronized': '' });
    const at = (ageS: number): void => {
      const time = host.nowMs / 1000 - ageS;
      utimesSync(host.path('run/systemd/timesync/synchronized'), time, time);
    };
    at(100);
    expect(await read(host)).toEqual([1, undefined, undefined, host.nowMs / 1000 - 100]);
    at(5000);
    expect((await read(host))[0]).toBe(0);
    host.remove('run/systemd/timesync/synchronized');
    expect((await read(host))[0]).toBe(0);
  });

  test('that nothing keeps right has no series', async () => {
    await using host = new FakeHost();
    expect(await read(host)).toEqual([]);
  });
});
