import { chmodSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SecretFile } from '../../../../aggregator/alerts/http/secret-file.ts';
import { tempDir } from '../../../support/temp.ts';
import { secretIn } from '../notify/receivers/places.ts';

test('gives the secret of now: a rotation needs no restart, not even one of the same length and time', async () => {
  await using dir = tempDir('secret');
  const path = secretIn(dir, 'secret', 'first');
  const file = new SecretFile(path);
  expect(file.read()).toBe('first');
  const { atime, mtime } = statSync(path);
  rmSync(path);
  secretIn(dir, 'secret', 'other');
  utimesSync(path, atime, mtime);
  expect(file.read()).toBe('other');
  chmodSync(path, 0o600);
  expect(file.read()).toBe('other');
});

test.each([
  ['', 'it is empty'],
  ['a secret\nof two lines', 'it must hold one line'],
  ['a secret with \0', 'it must hold one line'],
  ['x'.repeat(20_000), 'it is larger than 16384 bytes'],
])('says what is wrong with a file, and never what is in it (%#)', async (content, words) => {
  await using dir = tempDir('secret');
  const path = join(dir.path, 'secret');
  writeFileSync(path, content);
  const file = new SecretFile(path);
  let message = '';
  try {
    file.read();
  } catch (error) {
    message = `${error} ${(error as Error).cause}`;
  }
  expect(message).toContain(path);
  expect(message).toContain(words);
  expect(message).not.toMatch(/a secret|xxx/);
});

test('reads a URL where it is one of the web', async () => {
  await using dir = tempDir('secret');
  expect(new SecretFile(secretIn(dir, 'url', 'https://hooks.example/a')).readUrl()).toBe(
    'https://hooks.example/a',
  );
  const bad = new SecretFile(secretIn(dir, 'bad', 'file:///etc/passwd'));
  expect(() => bad.readUrl()).toThrow('it holds no http:// or https:// URL');
});
