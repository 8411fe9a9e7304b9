import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { type Gpu, GpuSchema, NodeState } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { HealthState } from '#proto/gpufleet/health/v1/health_pb.ts';
import { tokenOf } from '../../../aggregator/cli/connection.ts';
import { age, bar, healthColour, memory, paintWith, score } from '../../../aggregator/cli/format.ts';
import { renderTable } from '../../../aggregator/cli/table.ts';
import { renderScreen, worstFirst } from '../../../aggregator/cli/top.ts';

const gpu = (index: string, state: HealthState, points: number, more: Partial<Gpu> = {}): Gpu =>
  create(GpuSchema, { node: 'n', index, model: 'H100', health: { score: points, state }, ...more } as never);

test('a table lines up whatever is in it, also where a cell is coloured', () => {
  const paint = paintWith(true);
  const text = renderTable(
    [
      { title: 'A', cell: (row: { a: string; n: number }) => row.a, style: (_, cell) => paint('red', cell) },
      { title: 'NUMBER', cell: (row) => String(row.n), align: 'right' },
      { title: 'LAST', cell: () => 'x' },
    ],
    [
      { a: 'a-very-long-name', n: 5 },
      { a: 'b', n: 12345 },
    ],
  );
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is taken out
  const plain = text.replace(/\x1b\[\d+m/g, '');
  expect(plain).toBe(
    ['A                 NUMBER  LAST', 'a-very-long-name       5  x', 'b                  12345  x', ''].join(
      '\n',
    ),
  );
});

describe('a table on a terminal', () => {
  const columns = [
    { title: 'NODE', cell: ({ node }: { node: string; why: string }) => node },
    { title: 'MODEL', cell: () => 'NVIDIA H100 80GB HBM3', spare: 1 },
    { title: 'WHY', cell: ({ why }: { node: string; why: string }) => why },
  ];
  const rows = [{ node: 'gpu-017', why: 'the score 66 has been below 80 for 90 s' }];

  // Lost without it: a terminal that a node's name repaints, or a row that is forged.
  test('takes what would move the cursor out of every cell', () => {
    const text = renderTable(columns, [{ node: '\x1b[2Jn\r\u009b1m', why: 'a\u202eb\nc' }]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(text).not.toMatch(/[\0-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
    expect(text.split('\n')).toHaveLength(3);
  });

  test('breaks its last column into lines, gives up what can be spared, and then sets it below', () => {
    expect(renderTable(columns, rows, 60)).toBe(
      [
        'NODE     MODEL                  WHY',
        'gpu-017  NVIDIA H100 80GB HBM3  the score 66 has been below',
        '                                80 for 90 s',
        '',
      ].join('\n'),
    );
    expect(renderTable(columns, rows, 40)).toBe(
      ['NODE     WHY', 'gpu-017  the score 66 has been below 80', '         for 90 s', ''].join('\n'),
    );
    expect(renderTable(columns, rows, 28)).toBe(
      ['NODE', 'gpu-017', '    the score 66 has been', '    below 80 for 90 s', ''].join('\n'),
    );
  });
});

describe('what is not known is a dash, never a zero', () => {
  test('figures', () => {
    const silent = create(GpuSchema, {});
    expect(score(silent)).toBe('-');
    expect(score(gpu('0', HealthState.UNKNOWN, 0))).toBe('-');
    expect(memory(silent)).toBe('-/-');
    expect(age(undefined, 0)).toBe('-');
    expect(bar(undefined, 4)).toBe('    ');
    expect(bar(1.7, 4)).toBe('████');
  });
});

test('top shows the worst first, fits its screen, and says what it leaves out', () => {
  const gpus = [
    gpu('0', HealthState.HEALTHY, 100),
    gpu('1', HealthState.CRITICAL, 12),
    gpu('2', HealthState.UNKNOWN, 0),
    gpu('10', HealthState.DEGRADED, 70),
    gpu('9', HealthState.DEGRADED, 60),
    gpu('5', HealthState.FLAPPING, 65),
  ];
  expect(worstFirst(gpus).map(({ index }) => index)).toEqual(['1', '9', '5', '10', '2', '0']);
  const screen = renderScreen(
    { nodes: [{ state: NodeState.UP, firingAlerts: 2 }], gpus },
    (_, text) => text,
    60,
    6,
  );
  const lines = screen.trimEnd().split('\n');
  expect(lines.length).toBeLessThanOrEqual(6);
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(60);
  expect(lines[0]).toBe('1/1 nodes up  6 GPUs  2 alerts  0.0 kW');
  expect(lines.at(-1)).toBe('and 3 more, healthier');
  // Held in the worse state: not to be overlooked as unknown.
  expect(lines[4]).toMatch(/ 65 flapping/);
  expect(healthColour(HealthState.FLAPPING)).toBe('yellow');
});

test.each([
  ['a-bare-token-of-some-length\n', 'a-bare-token-of-some-length'],
  ['# ours\nviewer vvvvvvvvvvvvvvvvvv\noperator oooooooooooooooo ann\n', 'oooooooooooooooo'],
  ['viewer vvvvvvvvvvvvvvvvvv bob\n', 'vvvvvvvvvvvvvvvvvv'],
])('the token of %j', (text, token) => expect(tokenOf(text, 'f')).toBe(token));

test('a token file without a token is said', () => {
  expect(() => tokenOf('# nothing\n', 'f')).toThrow('Cannot use token file f: there is no token in it');
});
