import { readFileSync, statSync } from 'node:fs';
import * as v from 'valibot';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { ReceiverDeps } from '../notify/receivers/receiver-kind.ts';
import { webLink } from '../notify/receivers/short-text.ts';

/** A password, a token or a URL, not a disk image. */
const MAX_SECRET_BYTES = 16 * 1024;

/** The name of a file that holds one secret, as a setting. */
export const secretFilePath = v.pipe(
  v.string('must be the path of a file'),
  v.minLength(1, 'must be the path of a file'),
);

/** One secret in a file, read again whenever the file has changed: a rotation needs no restart. */
export class SecretFile {
  readonly path: string;
  #stamp = '';
  #secret = '';

  constructor(path: string) {
    this.path = path;
  }

  /** The secret without the space around it. Throws `unavailable` where it cannot be read; never names the secret. */
  read(): string {
    try {
      const { ctimeMs, mtimeMs, size, ino } = statSync(this.path);
      const stamp = `${ctimeMs} ${mtimeMs} ${size} ${ino}`;
      if (stamp !== this.#stamp) {
        this.#secret = load(this.path, size);
        this.#stamp = stamp;
      }
      return this.#secret;
    } catch (cause) {
      this.#stamp = '';
      throw new FleetError('unavailable', `Cannot read secret file ${this.path}`, { cause });
    }
  }

  /** The secret where it is a URL of the web. Throws `unavailable`, and never with the URL. */
  readUrl(): string {
    const link = webLink(this.read());
    if (link !== undefined) return link;
    throw new FleetError(
      'unavailable',
      `Cannot use secret file ${this.path}: it holds no http:// or https:// URL`,
    );
  }
}

/** Says at the start what each send would say: a secret that is not there yet. */
export function warnUnreadable(
  files: readonly (SecretFile | undefined)[],
  { name, logger }: ReceiverDeps,
): void {
  for (const file of files) {
    try {
      file?.read();
    } catch (error) {
      logger.warn({ receiver: name, error: describeError(error) }, 'a receiver cannot send yet');
    }
  }
}

function load(path: string, size: number): string {
  if (size > MAX_SECRET_BYTES) throw new Error(`it is larger than ${MAX_SECRET_BYTES} bytes`);
  const secret = readFileSync(path, 'utf8').trim();
  if (secret === '') throw new Error('it is empty');
  // A header must not be broken in two.
  if (/\p{Cc}/u.test(secret)) throw new Error('it must hold one line, the secret alone');
  return secret;
}
