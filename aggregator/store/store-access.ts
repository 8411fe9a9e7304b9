import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** How to reach a store that does not take just anybody: the `store` section of the configuration. */
export interface StoreAccessSettings {
  readonly basic_auth?: { readonly username: string; readonly password_file: string } | undefined;
  readonly bearer_token_file?: string | undefined;
  readonly tls?:
    | {
        readonly ca?: string | undefined;
        readonly cert?: string | undefined;
        readonly key?: string | undefined;
        readonly server_name?: string | undefined;
      }
    | undefined;
}

/** TLS as undici's connector takes it. */
export interface StoreTls {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly servername?: string;
}

/** The file is looked at this often: a secret that is rotated is used within a second. */
const LOOK_AGAIN_MS = 1_000;
/** A password or a token, not a disk image. */
const MAX_SECRET_BYTES = 16 * 1024;

/** Credentials for the store: the secret's file is read again when it changes, and when the store says 401. */
export class StoreAccess {
  readonly tls: StoreTls;
  readonly #settings: StoreAccessSettings;
  readonly #monotonic: () => number;
  #secret = '';
  #stamp = '';
  #lookedAt = Number.NEGATIVE_INFINITY;
  #rotations = 0;

  /** Reads every file. Throws `invalid_config` where one cannot be read or used. */
  constructor(settings: StoreAccessSettings, monotonic: () => number) {
    this.#settings = settings;
    this.#monotonic = monotonic;
    this.tls = readTls(settings.tls);
    if (settings.basic_auth && settings.bearer_token_file !== undefined)
      throw new FleetError(
        'invalid_config',
        'Cannot use store: give basic_auth or bearer_token_file, not both',
      );
    const file = this.#file;
    if (file === undefined) return;
    this.#secret = readSecret(file);
    this.#stamp = stampOf(file);
    this.#lookedAt = monotonic();
  }

  /** How often the secret has changed. */
  get rotations(): number {
    return this.#rotations;
  }

  /** The Authorization header; undefined where the store asks nobody. */
  get authorization(): string | undefined {
    if (this.#monotonic() - this.#lookedAt >= LOOK_AGAIN_MS) this.refresh();
    const { basic_auth } = this.#settings;
    if (basic_auth)
      return `Basic ${Buffer.from(`${basic_auth.username}:${this.#secret}`).toString('base64')}`;
    return this.#settings.bearer_token_file === undefined ? undefined : `Bearer ${this.#secret}`;
  }

  /** Looks at the file now; true where the secret is another. A file that is gone or empty changes nothing. */
  refresh(): boolean {
    const file = this.#file;
    this.#lookedAt = this.#monotonic();
    if (file === undefined) return false;
    try {
      const stamp = stampOf(file);
      if (stamp === this.#stamp) return false;
      const secret = readSecret(file);
      const changed = secret !== this.#secret;
      if (changed) this.#rotations++;
      this.#secret = secret;
      this.#stamp = stamp;
      return changed;
    } catch {
      // In the middle of a rotation: the store's own answer says whether the old secret still does.
      return false;
    }
  }

  get #file(): string | undefined {
    return this.#settings.basic_auth?.password_file ?? this.#settings.bearer_token_file;
  }
}

function readTls(tls: StoreAccessSettings['tls']): StoreTls {
  if (!tls) return {};
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw new FleetError(
      'invalid_config',
      'Cannot use store.tls: cert and key belong together, one is missing',
    );
  const ca = tls.ca === undefined ? undefined : readPem(tls.ca);
  const cert = tls.cert === undefined ? undefined : readPem(tls.cert);
  const key = tls.key === undefined ? undefined : readFile(tls.key);
  try {
    if (cert && key && !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new Error('they do not belong together');
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot use certificate ${tls.cert} with key ${tls.key}`, {
      cause: error,
    });
  }
  return {
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ...(tls.server_name !== undefined && { servername: tls.server_name }),
  };
}

function readPem(file: string): Buffer {
  const pem = readFile(file);
  try {
    return new X509Certificate(pem) && pem;
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot use ${file}: it is no certificate`, { cause: error });
  }
}

function readFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read ${file}`, { cause: error });
  }
}

function readSecret(file: string): string {
  const content = readFile(file);
  const secret = content.toString('utf8').trim();
  // A header must not be broken in two.
  const usable = secret !== '' && content.length <= MAX_SECRET_BYTES && !/[\r\n\0]/.test(secret);
  if (!usable)
    throw new FleetError('invalid_config', `Cannot use ${file}: it must hold one line, the secret alone`);
  return secret;
}

function stampOf(file: string): string {
  const { ctimeMs, mtimeMs, size, ino } = statSync(file);
  return `${ctimeMs} ${mtimeMs} ${size} ${ino}`;
}
