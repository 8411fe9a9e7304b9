import * as v from 'valibot';
import { SecretFile, secretFilePath } from './secret-file.ts';

/** How to say who we are over HTTP, as settings; at most one of the two. */
export const credentialSettings = {
  basic_auth: v.optional(
    v.strictObject({
      username: v.pipe(
        v.string('must be text'),
        v.regex(/^[^:\p{Cc}]{1,256}$/u, 'must be a name without a colon'),
      ),
      password_file: secretFilePath,
    }),
  ),
  bearer_token_file: v.optional(secretFilePath),
};

export interface CredentialSettings {
  readonly basic_auth?: { readonly username: string; readonly password_file: string } | undefined;
  readonly bearer_token_file?: string | undefined;
}

/** For `v.check`: whichever of two won, the other would be a surprise. */
export function oneCredential({ basic_auth, bearer_token_file }: CredentialSettings): boolean {
  return basic_auth === undefined || bearer_token_file === undefined;
}

/** The Authorization header of the moment, and the secret in it, which no log may show. */
export interface Authorization {
  readonly headers: Readonly<Record<string, string>>;
  readonly secrets: readonly string[];
}

export class HttpCredentials {
  readonly #username: string | undefined;
  /** Undefined where the server asks nobody. */
  readonly file: SecretFile | undefined;

  constructor({ basic_auth, bearer_token_file }: CredentialSettings) {
    const path = basic_auth?.password_file ?? bearer_token_file;
    this.#username = basic_auth?.username;
    this.file = path === undefined ? undefined : new SecretFile(path);
  }

  /** Throws `unavailable` where the secret cannot be read. */
  authorization(): Authorization {
    const secret = this.file?.read();
    if (secret === undefined) return { headers: {}, secrets: [] };
    const word =
      this.#username === undefined ? secret : Buffer.from(`${this.#username}:${secret}`).toString('base64');
    const scheme = this.#username === undefined ? 'Bearer' : 'Basic';
    return { headers: { authorization: `${scheme} ${word}` }, secrets: [secret, word] };
  }
}
