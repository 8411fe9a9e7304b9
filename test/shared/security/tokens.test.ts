import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { describeError } from '#shared/errors/fleet-error.ts';
import { bearerOf, TokenFile } from '#shared/security/tokens.ts';
import { tempDir } from '../../support/temp.ts';

const VIEWER = 'viewer-token-0123456789';
const OPERATOR = 'operator-token-0123456789';
const AGENT = 'agent-token-0123456789';

/** A token file in a folder of its own, read with a clock that the test moves. */
function tokenFile(text: string, mode = 0o600) {
  const dir = tempDir('tokens');
  const path = join(dir.path, 'tokens');
  const write = (content: string, newMode = mode): void => {
    // As an editor does it: a new file takes the name.
    writeFileSync(`${path}.new`, content, { mode: newMode });
    chmodSync(`${path}.new`, newMode);
    renameSync(`${path}.new`, path);
  };
  write(text);
  const time = { now: 0 };
  const problems: string[] = [];
  return {
    path,
    problems,
    write,
    open: () =>
      new TokenFile(
        path,
        () => time.now,
        (problem) => problems.push(problem),
      ),
    later: () => {
      time.now += 1_000;
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

function faultOf(open: () => unknown): string {
  try {
    open();
  } catch (error) {
    expect(error).toMatchObject({ code: 'invalid_config' });
    return describeError(error);
  }
  throw new Error('no fault');
}

test('each role, name and node is read; comments, blank lines and CRLF are no trouble', async () => {
  await using file = tokenFile(
    `# who may do what\r\n\r\nviewer ${VIEWER} grafana # the dashboards\n  operator\t${OPERATOR}\nagent ${AGENT} rack node=node-1\r\n`,
  );
  const tokens = file.open();
  expect(tokens.check(VIEWER)).toEqual({ role: 'viewer', name: 'grafana', node: undefined });
  expect(tokens.check(OPERATOR)).toEqual({ role: 'operator', name: '', node: undefined });
  expect(tokens.check(AGENT)).toEqual({ role: 'agent', name: 'rack', node: 'node-1' });
  for (const wrong of [undefined, '', ' ', 'viewer', `${VIEWER} `, VIEWER.slice(0, -1), VIEWER.toUpperCase()])
    expect(tokens.check(wrong), `"${wrong}"`).toBeUndefined();
});

test('a # within a token is part of it: nobody gets in with the half before it', async () => {
  await using file = tokenFile(`viewer ${VIEWER}#second-half\n`);
  const tokens = file.open();
  expect(tokens.check(`${VIEWER}#second-half`)?.role).toBe('viewer');
  expect(tokens.check(VIEWER)).toBeUndefined();
});

// A file that is half understood gives rights that nobody meant to give.
test('every fault is named by its line, and no token is ever printed', async () => {
  await using file = tokenFile(
    [
      `admin ${VIEWER}`,
      'viewer short',
      'viewer',
      `viewer ${VIEWER} node=node-1`,
      `agent ${AGENT} nodes=node-1`,
      `agent ${AGENT} node=`,
      `agent ${AGENT} node=a node=b`,
      `agent ${AGENT} two names`,
      `${OPERATOR} operator`,
      `viewer ${VIEWER} fine`,
    ].join('\n'),
  );
  const fault = faultOf(file.open);
  for (let line = 1; line <= 9; line++) expect(fault).toContain(`line ${line}: `);
  expect(fault).not.toContain('line 10');
  for (const secret of [VIEWER, OPERATOR, AGENT, 'short']) expect(fault).not.toContain(secret);
});

test.each([0o604, 0o602, 0o601, 0o644, 0o666])(
  'a file of mode %o, which the world may use, is refused',
  async (mode) => {
    await using file = tokenFile(`viewer ${VIEWER}\n`, mode);
    expect(faultOf(file.open)).toMatch(/the world can read it \(chmod 640 or 600\)/);
  },
);

test.each([0o600, 0o640, 0o400])('a file of mode %o is good', async (mode) => {
  await using file = tokenFile(`viewer ${VIEWER}\n`, mode);
  expect(file.open().check(VIEWER)?.role).toBe('viewer');
});

test('a file that is not there, or is a folder, is said by name', async () => {
  await using file = tokenFile('');
  expect(
    faultOf(
      () =>
        new TokenFile(
          `${file.path}.none`,
          () => 0,
          () => {},
        ),
    ),
  ).toContain(`${file.path}.none`);
  expect(
    faultOf(
      () =>
        new TokenFile(
          join(file.path, '..'),
          () => 0,
          () => {},
        ),
    ),
  ).toContain('Cannot');
});

test('a changed file counts a second later: a new token gets in, a withdrawn one does not', async () => {
  await using file = tokenFile(`viewer ${VIEWER}\n`);
  const tokens = file.open();
  file.write(`operator ${OPERATOR}\n`);
  file.later();
  expect(tokens.check(OPERATOR)?.role).toBe('operator');
  expect(tokens.check(VIEWER)).toBeUndefined();
  expect(file.problems).toEqual([]);
});

test('a change that cannot be used leaves the tokens as they were, is said once without a token, and is mended', async () => {
  await using file = tokenFile(`viewer ${VIEWER}\n`);
  const tokens = file.open();
  file.write(`nonsense ${OPERATOR}\n`);
  for (let look = 0; look < 3; look++) {
    file.later();
    expect(tokens.check(VIEWER)?.role).toBe('viewer');
  }
  expect(file.problems).toEqual([expect.stringContaining('line 1')]);
  expect(file.problems[0]).not.toContain(OPERATOR);
  file.write(`operator ${OPERATOR}\n`);
  file.later();
  expect(tokens.check(OPERATOR)?.role).toBe('operator');
});

test('a file that the world could read is taken as soon as its mode alone is mended', async () => {
  await using file = tokenFile(`viewer ${VIEWER}\n`);
  const tokens = file.open();
  file.write(`operator ${OPERATOR}\n`, 0o644);
  file.later();
  expect(tokens.check(OPERATOR)).toBeUndefined();
  expect(file.problems).toHaveLength(1);
  // The change time of a file moves in steps of the kernel's tick.
  await new Promise((resolve) => setTimeout(resolve, 20));
  chmodSync(file.path, 0o600);
  file.later();
  expect(tokens.check(OPERATOR)?.role).toBe('operator');
});

test('a file that vanishes leaves the tokens as they were', async () => {
  await using file = tokenFile(`viewer ${VIEWER}\n`);
  const tokens = file.open();
  rmSync(file.path);
  file.later();
  expect(tokens.check(VIEWER)?.role).toBe('viewer');
  expect(file.problems).toEqual([expect.stringContaining('stay as they were')]);
});

// Which of the two roles it gave would be chance, and withdrawing one line would leave the other.
test('a token on two lines is a fault of the second, and is not printed', async () => {
  await using file = tokenFile(`viewer ${VIEWER}\noperator ${OPERATOR}\noperator ${VIEWER} ann\n`);
  const fault = faultOf(file.open);
  expect(fault).toContain('line 3: its token is on an earlier line too');
  expect(fault).not.toContain(VIEWER);
});

test('more tokens than are allowed are refused', async () => {
  const lines = Array.from(
    { length: 100_001 },
    (_, index) => `viewer token-${String(index).padStart(12, '0')}`,
  );
  await using file = tokenFile(lines.join('\n'));
  expect(faultOf(file.open)).toContain('100001 tokens, at most 100000');
});

test.each([
  ['Bearer abc', 'abc'],
  ['bearer abc', 'abc'],
  ['Bearer  abc ', 'abc'],
  ['Bearer ', ''],
  ['Basic abc', undefined],
  ['abc', undefined],
  ['', undefined],
  [undefined, undefined],
])('the token of "%s" is %s', (header, token) => {
  expect(bearerOf(header)).toBe(token);
});
