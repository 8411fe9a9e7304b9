import { expect, test } from 'vitest';
import { GpuIdentities, normalPci } from '../../../agent/collect/gpu-identity.ts';
import type { Facts } from '../../../agent/collect/source-kind.ts';

const HOUR = 3_600_000;

function setup() {
  const kept = new Map<string, string>();
  let writes = 0;
  const facts: Facts = {
    get: (name) => kept.get(name),
    set: (name, value) => {
      writes++;
      kept.set(name, value);
    },
  };
  const clock = { nowMs: 1_700_000_000_000, now: () => clock.nowMs, monotonic: () => 0 };
  return { facts, kept, clock, writes: () => writes, table: new GpuIdentities(facts, clock) };
}

const gpu = (pci: string, uuid: string) => ({ pci, uuid, serial: `s-${uuid}`, gpu: '0', model: 'H100' });

test.each([
  ['0000:91:00.0', '0000:91:00.0'],
  ['00000000:91:00.0', '0000:91:00.0'],
  ['PCI:0000:91:00', '0000:91:00.0'],
  ['00010000:0A:1F.3', '10000:0a:1f.3'],
  ['91:00.0', '0000:91:00.0'],
  ['GPU-91', undefined],
  ['', undefined],
])('the address %s is %s', (given, expected) => {
  expect(normalPci(given)).toBe(expected);
});

// Lost without it: an Xid of a GPU that is gone names nothing but a slot.
test('knows a GPU by its address in any spelling, also after a restart', () => {
  const { facts, clock, table } = setup();
  table.note(gpu('00000000:91:00.0', 'GPU-a'));
  const again = new GpuIdentities(facts, clock);
  expect(again.byPci('PCI:0000:91:00')).toMatchObject({ uuid: 'GPU-a', serial: 's-GPU-a', lost: false });
  again.noteLost('GPU-a');
  expect(table.byUuid('GPU-a')?.lost).toBe(true);
  table.note(gpu('00000000:91:00.0', 'GPU-a'));
  expect(again.byUuid('GPU-a')?.lost).toBe(false);
});

// Lost without it: a swapped board inherits the history of the one before.
test('another board in the slot takes its place, and a board that moved leaves its old slot', () => {
  const { table } = setup();
  table.note(gpu('0000:01:00.0', 'GPU-a'));
  table.note(gpu('0000:02:00.0', 'GPU-b'));
  table.note(gpu('0000:01:00.0', 'GPU-c'));
  table.note(gpu('0000:03:00.0', 'GPU-b'));
  expect(table.all.map(({ pci, uuid }) => [pci, uuid])).toEqual([
    ['0000:01:00.0', 'GPU-c'],
    ['0000:03:00.0', 'GPU-b'],
  ]);
});

// Lost without it: every read writes to disk, and an absurd source fills it.
test('writes only what changed, and keeps at most 64', () => {
  const { table, clock, writes } = setup();
  for (let i = 0; i < 5; i++) table.note(gpu('0000:01:00.0', 'GPU-a'));
  expect(writes()).toBe(1);
  clock.nowMs += HOUR;
  table.note(gpu('0000:01:00.0', 'GPU-a'));
  expect(writes()).toBe(2);
  for (let i = 0; i < 200; i++) {
    clock.nowMs++;
    table.note(gpu(`${(i + 2).toString(16).padStart(4, '0')}:00:00.0`, `GPU-${i}`));
  }
  expect(table.all).toHaveLength(64);
  expect(table.byUuid('GPU-199')).toBeDefined();
  table.note(gpu('nowhere', 'GPU-x'));
  table.note(gpu('0000:0f:00.0', ''));
  expect(table.byUuid('GPU-x')).toBeUndefined();
});

test.each(['', '{', '[1, null, {"pci": 3}]', '{"a": 1}'])(
  'starts anew from a table that reads %j',
  (text) => {
    const { kept, table } = setup();
    kept.set('gpu-identities', text);
    expect(table.all).toEqual([]);
    table.note(gpu('0000:01:00.0', 'GPU-a'));
    expect(table.byUuid('GPU-a')).toBeDefined();
  },
);
