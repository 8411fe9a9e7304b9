import { expect, test } from 'vitest';
import { hashPassword, isPasswordHash, verifyPassword } from '../../../agent/expose/password.ts';

// Lost without it: nobody gets in, or anybody does.
test('a hash fits its password and no other, and two of the same password differ', async () => {
  const [one, two] = [await hashPassword('correct horse'), await hashPassword('correct horse')];
  expect(one).not.toBe(two);
  expect(one).toMatch(/^\$scrypt\$ln=14,r=8,p=1\$/);
  expect(await verifyPassword('correct horse', one!)).toBe(true);
  expect(await verifyPassword('correct horsf', one!)).toBe(false);
  expect(await verifyPassword('', one!)).toBe(false);
});

// RFC 7914, section 12, third vector, in the PHC format.
test('it is scrypt as others compute it', async () => {
  const key = Buffer.from(
    '7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887',
    'hex',
  );
  const base64 = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '');
  const hash = `$scrypt$ln=14,r=8,p=1$${base64(Buffer.from('SodiumChloride'))}$${base64(key)}`;
  expect(await verifyPassword('pleaseletmein', hash)).toBe(true);
});

// Lost without it: a hash in the configuration makes each scrape take gigabytes.
test.each([
  '',
  'plain text',
  '$2y$10$abcdefghijklmnopqrstuv',
  '$scrypt$ln=30,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  '$scrypt$ln=14,r=99,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  '$scrypt$ln=14,r=8,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
])('%j is no hash that is taken', async (hash) => {
  expect(isPasswordHash(hash)).toBe(false);
  expect(await verifyPassword('x', hash)).toBe(false);
});

test('an empty password, and one that is a file, are refused', async () => {
  await expect(hashPassword('')).rejects.toThrow('Cannot hash a password');
  await expect(hashPassword('x'.repeat(2000))).rejects.toThrow('Cannot hash a password');
});
