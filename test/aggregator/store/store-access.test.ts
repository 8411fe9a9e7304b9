import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { StoreAccess } from '../../../aggregator/store/store-access.ts';
import { TestAuthority } from '../../shared/security/certificates.ts';
import { tempDir } from '../../support/temp.ts';

test('credentials come from a file, and a new secret is used without a restart', async () => {
  await using dir = tempDir();
  const file = join(dir.path, 'token');
  writeFileSync(file, 'first\n');
  let now = 0;
  const bearer = new StoreAccess({ bearer_token_file: file }, () => now);
  const basic = new StoreAccess({ basic_auth: { username: 'writer', password_file: file } }, () => now);
  expect(bearer.authorization).toBe('Bearer first');
  expect(basic.authorization).toBe(`Basic ${Buffer.from('writer:first').toString('base64')}`);
  writeFileSync(file, 'second, longer\n');
  expect(bearer.authorization).toBe('Bearer first');
  now = 1_000;
  expect(bearer.authorization).toBe('Bearer second, longer');
  expect(bearer.rotations).toBe(1);
  // At once when the store says 401.
  expect(basic.refresh()).toBe(true);
  expect(basic.refresh()).toBe(false);
  rmSync(file);
  now = 5_000;
  expect(bearer.authorization).toBe('Bearer second, longer');
});

test('what cannot work is said at the start, with the file: not by a store that answers 401 at night', async () => {
  await using dir = tempDir();
  await using authority = await TestAuthority.create();
  const { cert } = await authority.issue('one');
  const { key } = await authority.issue('other');
  const file = (name: string, content: string): string => {
    writeFileSync(join(dir.path, name), content);
    return join(dir.path, name);
  };
  const faults: [ConstructorParameters<typeof StoreAccess>[0], RegExp][] = [
    [{ bearer_token_file: '/nowhere/token' }, /Cannot read \/nowhere\/token/],
    [{ bearer_token_file: file('empty', '\n') }, /Cannot use .*empty: it must hold one line/],
    [{ bearer_token_file: file('two', 'a\r\nx-evil: b') }, /Cannot use .*two: it must hold one line/],
    [
      { bearer_token_file: file('t', 'x'), basic_auth: { username: 'u', password_file: file('p', 'x') } },
      /not both/,
    ],
    [{ tls: { ca: file('ca', 'no certificate') } }, /Cannot use .*ca: it is no certificate/],
    [{ tls: { cert } }, /cert and key belong together/],
    [{ tls: { cert, key } }, /Cannot use certificate .* with key/],
  ];
  for (const [settings, message] of faults)
    expect(() => new StoreAccess(settings, () => 0), String(message)).toThrow(message);
});
