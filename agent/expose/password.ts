import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** 2^14, r 8, p 1: 16 MiB and some 40 ms of a core for each try; the least that OWASP's sheet of 2023 names with r 8 is 2^17 for sites, a scraper's random password needs less. */
const LOG2_N = 14;
const BLOCK = 8;
const PARALLEL = 1;
const SALT_BYTES = 16;
const KEY_BYTES = 32;
/** What a configuration may ask for: 128 * 2^17 * 8 = 128 MiB would be more than the agent's limit allows. */
const MAX_LOG2_N = 16;
const MAX_BLOCK = 8;
const MAX_PARALLEL = 4;
const MAX_PASSWORD_BYTES = 1024;

const derive = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(
  scrypt,
);

interface Parsed {
  readonly logN: number;
  readonly r: number;
  readonly p: number;
  readonly salt: Buffer;
  readonly key: Buffer;
}

/** In the PHC string format: `$scrypt$ln=14,r=8,p=1$<salt>$<key>`, base64 without padding. */
export async function hashPassword(
  password: string,
  salt: Buffer = randomBytes(SALT_BYTES),
): Promise<string> {
  if (password === '' || Buffer.byteLength(password) > MAX_PASSWORD_BYTES)
    throw new FleetError(
      'invalid_input',
      `Cannot hash a password: it must have 1 to ${MAX_PASSWORD_BYTES} bytes`,
    );
  const key = await keyOf(password, salt, LOG2_N, BLOCK, PARALLEL, KEY_BYTES);
  return `$scrypt$ln=${LOG2_N},r=${BLOCK},p=${PARALLEL}$${base64(salt)}$${base64(key)}`;
}

/** Whether a text is a hash that `verifyPassword` takes. */
export function isPasswordHash(hash: string): boolean {
  return parse(hash) !== undefined;
}

/** Takes as long for a wrong password as for the right one. */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  const parsed = parse(hash);
  if (!parsed || Buffer.byteLength(password) > MAX_PASSWORD_BYTES) return false;
  const { salt, logN, r, p, key } = parsed;
  return timingSafeEqual(await keyOf(password, salt, logN, r, p, key.length), key);
}

function keyOf(
  password: string,
  salt: Buffer,
  logN: number,
  r: number,
  p: number,
  bytes: number,
): Promise<Buffer> {
  const N = 2 ** logN;
  return derive(password, salt, bytes, { N, r, p, maxmem: 256 * N * r });
}

function parse(hash: string): Parsed | undefined {
  const match =
    /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d)\$([A-Za-z0-9+/]{11,64})\$([A-Za-z0-9+/]{22,86})$/.exec(hash);
  if (!match) return undefined;
  const [logN, r, p] = match.slice(1, 4).map(Number) as [number, number, number];
  const within = logN >= 1 && logN <= MAX_LOG2_N && r >= 1 && r <= MAX_BLOCK && p >= 1 && p <= MAX_PARALLEL;
  return within
    ? { logN, r, p, salt: Buffer.from(match[4]!, 'base64'), key: Buffer.from(match[5]!, 'base64') }
    : undefined;
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
