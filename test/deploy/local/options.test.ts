import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { startProgram } from '../../support/process.ts';

async function start(...args: string[]): Promise<{ status: number | null; output: string }> {
  await using child = await startProgram('deploy/local/start.ts', { args });
  const { status } = await child.exited;
  return { status, output: child.output };
}

// Lost without it: a user cannot find out how to choose a port, or finds out after the downloads.
test('--help names every option and shows examples', async () => {
  const { status, output } = await start('--help');
  expect(status).toBe(0);
  for (const option of ['--nodes', '--source', '--data', '--embedded', '--interval', '--log-level'])
    expect(output).toContain(option);
  for (const [flag, port] of [
    ['ingest', 7400],
    ['api', 7480],
    ['agent', 9400],
    ['victoria-metrics', 8428],
    ['nats', 4222],
  ]) {
    expect(output).toMatch(new RegExp(`--${flag}-port <port>[^-]*default: ${port}`));
  }
  expect(output).toContain('Examples:');
});

test.each([
  [['--nodes', '0'], 'from 1 to 1000'],
  [['--nodes', 'many'], 'from 1 to 1000'],
  [['--api-port', '70000'], 'from 1 to 65535'],
  [['--source', 'ftp://gpu'], 'begins with http:// or https://'],
  [['--interval', 'often'], 'duration such as 500ms'],
  [['--log-level', 'loud'], 'Allowed choices are'],
  [['--source', 'http://a', '--nodes', '2'], 'cannot be used with'],
  [['--embedded', '--nats', 'nats://a:4222'], 'cannot be used with'],
  [['somewhere'], 'too many arguments'],
])('%j is refused in one sentence', async (args, words) => {
  const { status, output } = await start(...args, '--data', resolve('/nonexistent/never-made'));
  expect(status).toBe(1);
  expect(output).toContain(words);
});
