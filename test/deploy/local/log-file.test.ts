import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LogFile } from '../../../deploy/local/log-file.ts';
import { tempDir } from '../../support/temp.ts';

// Lost without it: an agent that complains every second fills the disk that the buffer needs.
test('two files of the limit at most, the newest lines kept, also over a restart', async () => {
  await using dir = tempDir('log');
  const path = join(dir.path, 'logs', 'agent.log');
  for (let start = 0; start < 3; start++) {
    using log = new LogFile(path, 100);
    for (let line = 0; line < 20; line++) log.write(Buffer.from(`start ${start} line ${line}\n`));
  }
  expect(statSync(path).size).toBeLessThanOrEqual(100);
  expect(statSync(`${path}.1`).size).toBeLessThanOrEqual(100);
  expect(readFileSync(path, 'utf8')).toMatch(/start 2 line 19\n$/);
});

test('a closed log takes no more and does not throw: a child may still be talking', async () => {
  await using dir = tempDir('log');
  const log = new LogFile(join(dir.path, 'a.log'));
  log[Symbol.dispose]();
  log[Symbol.dispose]();
  log.write(Buffer.from('late\n'));
  expect(readFileSync(log.path, 'utf8')).toBe('');
});
