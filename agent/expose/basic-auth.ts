import { createHash } from 'node:crypto';
import { verifyPassword } from './password.ts';

/** Right ones that are remembered, so that a scrape each second costs no scrypt. */
const MAX_REMEMBERED = 32;
/** Passwords being tried at a time: each takes 16 MiB. More are told to come again. */
const MAX_TRIES = 2;
/** For a name that is not known: trying must take as long as for one that is. */
const NOBODY = '$scrypt$ln=14,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

export type AuthAnswer = 'ok' | 'denied' | 'busy';

/** HTTP basic authentication against scrypt hashes, by user name. */
export class BasicAuth {
  readonly #users: ReadonlyMap<string, string>;
  /** SHA-256 of headers that were right. */
  readonly #remembered = new Set<string>();
  #trying = 0;

  constructor(users: Readonly<Record<string, string>>) {
    this.#users = new Map(Object.entries(users));
  }

  /** `Basic <base64 of user:password>` */
  async check(header: string | undefined): Promise<AuthAnswer> {
    const match = /^basic ([A-Za-z0-9+/=]{1,4096})$/i.exec(header ?? '');
    if (!match) return 'denied';
    const digest = createHash('sha256').update(match[1]!).digest('base64');
    if (this.#remembered.has(digest)) return 'ok';
    if (this.#trying >= MAX_TRIES) return 'busy';
    this.#trying++;
    try {
      const text = Buffer.from(match[1]!, 'base64').toString('utf8');
      const colon = text.indexOf(':');
      const hash = colon < 0 ? undefined : this.#users.get(text.slice(0, colon));
      const right = await verifyPassword(text.slice(colon + 1), hash ?? NOBODY);
      if (!right || hash === undefined) return 'denied';
      if (this.#remembered.size >= MAX_REMEMBERED) this.#remembered.clear();
      this.#remembered.add(digest);
      return 'ok';
    } finally {
      this.#trying--;
    }
  }
}
