import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { momentOf } from '../../../aggregator/cli/moment.ts';
import { startProgram } from '../../support/process.ts';
import { FakeView, letterOf, lossOf, startApi } from '../query/fake-view.ts';

const OPERATOR = 'operator-token-0123456789';

describe('losses, replay and dead letters, against the API', () => {
  const view = new FakeView();
  let server: Awaited<ReturnType<typeof startApi>>;
  beforeAll(async () => {
    server = await startApi({
      view,
      access: {
        anonymousRead: true,
        check: (token) => (token === OPERATOR ? { role: 'operator', name: '', node: undefined } : undefined),
      },
    });
  });
  beforeEach(() => {
    for (const list of [view.lossList, view.letterList, view.replays, view.replayedLetters]) list.length = 0;
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  async function gpufleet(...args: string[]): Promise<{ code: number | null; output: string }> {
    await using child = await startProgram('aggregator/cli/main.ts', {
      args,
      env: { GPUFLEET_SERVER: server.url, NO_COLOR: '1' },
    });
    const { status } = await child.exited;
    return { code: status, output: child.output };
  }

  test('losses are a table with its sum, where an estimate is marked and no text moves the cursor', async () => {
    expect(await gpufleet('losses')).toEqual({ code: 0, output: 'nothing is lost\n' });
    view.lossList.push(lossOf('1'), lossOf('2', { estimated: true, samples: 5n, detail: 'a\x1b[2J\nb' }));
    const { code, output } = await gpufleet('losses');
    expect(code).toBe(0);
    expect(output.split('\n')).toEqual([
      expect.stringMatching(/^RECORDED +NODE +FROM +TO +SAMPLES +REASON +DETAIL$/),
      expect.stringMatching(
        /^1970-01-01T00:00:03Z +node-1 +1970-01-01T00:00:01Z +1970-01-01T00:00:02Z +~5 +trimmed +a \[2J b$/,
      ),
      expect.stringMatching(/ 10 +trimmed +aged out$/),
      '15 samples lost in 2 entries',
      '',
    ]);
    expect((await gpufleet('losses', '--limit', '1')).output).toContain('in 2 entries, of which 1 are shown');
    const json = JSON.parse((await gpufleet('losses', '--json', '--node', 'node-1')).output) as object;
    expect(json).toMatchObject({
      total: 2,
      samples: '15',
      losses: [{ id: '2', estimated: true }, { id: '1' }],
    });
    expect((await gpufleet('losses', '--since', '1h')).output).toBe('nothing is lost\n');
    expect((await gpufleet('losses', '--reason', 'corrupt')).output).toBe('nothing is lost\n');
    expect((await gpufleet('losses', '--until', '1971-01-01')).output).toContain('15 samples');
  });

  test('replay needs a start and an operator, and says how many agents were asked', async () => {
    expect((await gpufleet('replay')).code).toBe(2);
    expect((await gpufleet('replay', '--from', 'soon')).output).toMatch(/must be a time such as.*2h/);
    expect((await gpufleet('replay', '--from', '2h')).code).toBe(4);
    expect(view.replays).toEqual([]);
    const args = [
      '--from',
      '2026-01-31T12:00:00Z',
      '--to',
      '2026-02-01',
      '--node',
      'n',
      '--comment',
      'restored',
    ];
    const { code, output } = await gpufleet('replay', ...args, '--token', OPERATOR);
    expect(code).toBe(0);
    expect(output).toMatch(
      /^2 agents were asked to send again since 2026-01-31T12:00:00\.000Z; whoever is away/,
    );
    expect(view.replays).toEqual([
      { fromMs: Date.UTC(2026, 0, 31, 12), toMs: Date.UTC(2026, 1, 1), node: 'n', comment: 'restored' },
    ]);
  });

  test('dead letters are listed with the words of the store, and replayed by id or all, oldest first', async () => {
    expect((await gpufleet('dead-letters')).output).toBe('no dead letters\n');
    for (let n = 1; n <= 60; n++) view.letterList.push(letterOf(String(n)));
    expect((await gpufleet('dead-letters', '--limit', '1')).output).toMatch(
      /^ID +RECORDED +NODE +SAMPLES +FROM +TO +SERIES +ANSWER\n60 .*a\{b="c"\} +400 bad\n$/,
    );
    const operator = ['--token', OPERATOR];
    expect((await gpufleet('dead-letters', 'replay', '1')).code).toBe(4);
    expect((await gpufleet('dead-letters', 'replay', ...operator)).code).toBe(2);
    expect((await gpufleet('dead-letters', 'replay', '1', '--all', ...operator)).code).toBe(2);
    expect((await gpufleet('dead-letters', 'replay', 'x', ...operator)).code).toBe(3);
    view.replayedLetters.length = 0;
    expect(await gpufleet('dead-letters', 'replay', '1', '2', ...operator)).toEqual({
      code: 0,
      output: 'the store took 1 and refused 1 again\n',
    });
    expect((await gpufleet('dead-letters', 'replay', '--all', '--json', ...operator)).output).toBe(
      '{"accepted":30,"refused":30}\n',
    );
    expect(view.replayedLetters.map((ids) => [ids.length, ids[0]])).toEqual([
      [2, '1'],
      [50, '1'],
      [10, '51'],
    ]);
  });
});

const NOW = Date.UTC(2026, 0, 31, 12);
test.each([
  ['2h', NOW - 7_200_000],
  ['1h30m', NOW - 5_400_000],
  ['2026-01-31', Date.UTC(2026, 0, 31)],
  ['2026-01-31T12:00:00+01:00', NOW - 3_600_000],
  ['1767225600', 1_767_225_600_000],
  ['yesterday', undefined],
  ['2026-13-01', undefined],
  ['2026-01-31T12:00:00', undefined],
  ['-2h', undefined],
  ['99999d', undefined],
  ['', undefined],
])('the moment %j', (text, ms) => expect(momentOf(text, NOW)).toBe(ms));
