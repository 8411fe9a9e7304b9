import { expect, test } from 'vitest';
import { crc32c } from '#shared/wire/crc32c.ts';

// RFC 3720, appendix B.4; the last one is the check value of CRC-32C in the catalogue of CRCs (reveng).
test.each([
  ['32 bytes of zeroes', new Uint8Array(32), 0x8a9136aa],
  ['32 bytes of ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['32 bytes that count up', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ['32 bytes that count down', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ['nine digits', Buffer.from('123456789'), 0xe3069283],
])('the checksum of %s is the published one', (_, bytes, checksum) => {
  expect(crc32c(bytes)).toBe(checksum);
});

// Lost without it: a checksum that depends on where in a buffer the bytes lie, or on how many came before.
test('a part, at any offset and of any length, continued or not, has the checksum of its bytes alone', () => {
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => (i * 181 + 7) & 0xff);
  for (let from = 0; from < 20; from++) {
    for (let to = from; to < 44; to++) {
      const alone = crc32c(bytes.slice(from, to));
      expect(crc32c(bytes, from, to)).toBe(alone);
      const middle = (from + to) >> 1;
      expect(crc32c(bytes, middle, to, crc32c(bytes, from, middle))).toBe(alone);
    }
  }
});
