import { expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { FilesystemsPart } from '../../../../agent/collect/host/filesystems.ts';
import { CallGate } from '../../../../agent/collect/host-files/call-gate.ts';
import { FileReader, HostFile, stateOf } from '../../../../agent/collect/host-files/file-reader.ts';
import { PartsCollector } from '../../../../agent/collect/host-files/parts-collector.ts';
import { until } from '../../../support/wait.ts';
import { FakeHost, patient, shown } from './fake-host.ts';

const WAIT = { timeoutMs: 10_000, what: 'the call' };

const MOUNTS = [
  '22 1 259:1 / / rw - ext4 /dev/a rw',
  '23 22 259:2 / /dead rw - ext4 /dev/b rw',
  '24 22 259:3 / /last rw - ext4 /dev/c rw',
].join('\n');

// Lost without it: one dead disk takes the view of all others, or one thread after the other.
test('a filesystem that does not answer is Timeout, asked once, reported, and read again when it came back', async () => {
  await using host = new FakeHost({ 'proc/1/mountinfo': MOUNTS });
  const asked: string[] = [];
  const stuck = Promise.withResolvers<void>();
  const ask = async (path: string): Promise<never> => {
    asked.push(path.slice(host.paths.root.length));
    if (path.endsWith('/dead')) await stuck.promise;
    return { bsize: 4096, blocks: 10, bfree: 5, bavail: 4, files: 3, ffree: 2 } as never;
  };
  await using collector = new PartsCollector({
    name: 'slow',
    intervalMs: 1000,
    clock: host.surroundings.clock,
    logger: silentLogger,
    parts: (reader, gate) => [new FilesystemsPart(reader, gate, host.paths, ask)],
  });
  const size = (path: string): string =>
    `node_filesystem_size_bytes{device="/dev/${path === '/' ? 'a' : path === '/dead' ? 'b' : 'c'}",fstype="ext4",mountpoint="${path}"}`;

  const deadline = new AbortController();
  const reading = collector.collect(deadline.signal);
  await until(() => asked.includes('/dead'), WAIT);
  deadline.abort();
  const first = await reading;
  expect(shown(first)).toMatchObject({
    [size('/')]: 40960,
    [size('/dead')]: 'Timeout',
    [size('/last')]: 'Timeout',
  });
  expect(first.events).toMatchObject([
    { type: 'collector_stuck', attributes: { source: 'slow', over: 'false' } },
  ]);

  const second = await collector.collect(patient);
  expect(shown(second)).toMatchObject({
    [size('/')]: 40960,
    [size('/dead')]: 'Timeout',
    [size('/last')]: 40960,
  });
  expect(asked.filter((path) => path === '/dead')).toHaveLength(1);
  expect(second.events).toEqual([]);

  stuck.resolve();
  await until(async () => {
    const { events } = await collector.collect(patient);
    return events.some(({ attributes }) => attributes.over === 'true');
  }, WAIT);
  expect(shown(await collector.collect(patient))).toMatchObject({ [size('/dead')]: 40960 });
});

// Lost without it: hung calls take all four threads of the process, and the buffer cannot write any more.
test('where two calls hang, no third is begun, and /proc is still read', async () => {
  const gate = new CallGate({ source: 's', logger: silentLogger });
  const other = new CallGate({ source: 't', logger: silentLogger });
  const stuck = Promise.withResolvers<number>();
  const call = (of: CallGate, key: string, op = () => stuck.promise): Promise<number | undefined> =>
    of.call(key, AbortSignal.timeout(20), key, op);
  expect(await call(gate, 'a')).toBeUndefined();
  expect(await call(other, 'b')).toBeUndefined();
  let begun = false;
  const third = await call(gate, 'c', async () => {
    begun = true;
    return 1;
  });
  expect([third, begun]).toEqual([undefined, false]);
  expect(await call(gate, '', async () => 2)).toBe(2);
  stuck.resolve(0);
  await until(() => !gate.hangs('a') && !other.hangs('b'), WAIT);
  expect(await call(gate, 'c', async () => 3)).toBe(3);
});

test('a read gives the whole of a file of any length up to its limit, and follows a file that is replaced', async () => {
  await using host = new FakeHost();
  await using reader = new FileReader(new CallGate({ source: 's', logger: silentLogger }));
  const file = new HostFile(host.path('proc/x'), '');
  const text = 'line of a long file\n'.repeat(5000);
  host.write('proc/x', text);
  expect(await reader.read(file, patient)).toBe(text.length + 1);
  expect(reader.bytes.toString('utf8', 0, text.length)).toBe(text);
  host.write('proc/x', Buffer.alloc(2 ** 20 + 1));
  expect(await reader.read(file, patient)).toBe(-SlotState.Absent);
  expect(await reader.text(host.path('proc/none'), '', patient)).toBeUndefined();
});

test.each([
  ['EACCES', SlotState.NoPermission],
  ['EPERM', SlotState.NoPermission],
  ['EINVAL', SlotState.NotSupported],
  ['EOPNOTSUPP', SlotState.NotSupported],
  ['ETIMEDOUT', SlotState.Timeout],
  ['ENODEV', SlotState.Absent],
])('%s says why there is no value', (code, state) => {
  expect(stateOf(Object.assign(new Error(code), { code }))).toBe(state);
});
