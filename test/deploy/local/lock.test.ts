import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { tryLockFile } from '../../../deploy/local/lock.ts';
import { Child } from '../../support/process.ts';
import { tempDir } from '../../support/temp.ts';
import { until } from '../../support/wait.ts';

const LOCK_MODULE = new URL('../../../deploy/local/lock.ts', import.meta.url).href;

/** A process that takes the lock and keeps it until it is ended. */
function holder(path: string): Promise<Child> {
  const script = `import { tryLockFile } from ${JSON.stringify(LOCK_MODULE)};
    console.log('path' in tryLockFile(${JSON.stringify(path)}) ? 'held' : 'refused');
    setInterval(() => {}, 1000);`;
  const args = ['--input-type=module', '--eval', script];
  return Child.start({ name: 'lock holder', command: process.execPath, args });
}

// Lost without it: two stacks on one data folder, and a damaged buffer.
test('a lock that a living process holds is refused, with its pid', async () => {
  await using dir = tempDir('lock');
  const path = join(dir.path, 'lock');
  await using other = await holder(path);
  await until(() => other.output.includes('held'), {
    timeoutMs: 20_000,
    what: 'the other process holds the lock',
  });
  expect(tryLockFile(path)).toEqual({ pid: other.pid });
});

// Lost without it: after a power cut npm start says "runs already" until somebody deletes a file by hand.
test('the lock of a process that was killed is taken over', async () => {
  await using dir = tempDir('lock');
  const path = join(dir.path, 'lock');
  await using other = await holder(path);
  await until(() => other.output.includes('held'), {
    timeoutMs: 20_000,
    what: 'the other process holds the lock',
  });
  await other.kill9();
  expect(existsSync(path)).toBe(true);
  using lock = tryLockFile(path) as Disposable & { path: string };
  expect(lock.path).toBe(path);
});

test('a pid that another process has by now does not hold the lock', async () => {
  await using dir = tempDir('lock');
  const path = join(dir.path, 'lock');
  writeFileSync(path, `${process.pid} 1\n`);
  const lock = tryLockFile(path);
  expect(lock).toHaveProperty('path', path);
  (lock as Disposable)[Symbol.dispose]();
  expect(existsSync(path)).toBe(false);
});

test('a lock file with anything else inside is taken over, and dispose twice removes nothing of others', async () => {
  await using dir = tempDir('lock');
  const path = join(dir.path, 'lock');
  writeFileSync(path, 'not a lock');
  const lock = tryLockFile(path) as Disposable;
  lock[Symbol.dispose]();
  writeFileSync(path, 'of somebody else');
  lock[Symbol.dispose]();
  expect(readFileSync(path, 'utf8')).toBe('of somebody else');
});
