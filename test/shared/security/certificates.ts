import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type TempDir, tempDir } from '../../support/temp.ts';

const run = promisify(execFile);

/** Paths of a certificate and its key, PEM. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** A certificate authority of its own, made by openssl in a temp folder; `await using` it. */
export class TestAuthority implements AsyncDisposable {
  readonly #dir: TempDir;

  private constructor(dir: TempDir) {
    this.#dir = dir;
  }

  static async create(): Promise<TestAuthority> {
    const authority = new TestAuthority(tempDir('certificates'));
    const { cert, key } = authority.#files('ca');
    await run('openssl', [...newKey(key), '-x509', '-days', '2', '-subj', '/CN=Test CA', '-out', cert]);
    return authority;
  }

  get ca(): string {
    return this.#files('ca').cert;
  }

  /** Names as openssl writes them: `DNS:localhost,IP:127.0.0.1`, `URI:spiffe://fleet/node/a`. */
  async issue(commonName: string, alternativeNames?: string): Promise<CertificateFiles> {
    const { cert, key } = this.#files(commonName);
    const request = join(this.#dir.path, `${commonName}.csr`);
    const extensions = join(this.#dir.path, `${commonName}.ext`);
    await run('openssl', [...newKey(key), '-subj', `/CN=${commonName}`, '-out', request]);
    await writeFile(extensions, alternativeNames === undefined ? '' : `subjectAltName=${alternativeNames}\n`);
    const ca = this.#files('ca');
    await run('openssl', [
      ...['x509', '-req', '-days', '2', '-in', request, '-out', cert, '-extfile', extensions],
      ...['-CA', ca.cert, '-CAkey', ca.key, '-CAcreateserial'],
    ]);
    return { cert, key };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve(this.#dir[Symbol.asyncDispose]());
  }

  #files(name: string): CertificateFiles {
    return { cert: join(this.#dir.path, `${name}.pem`), key: join(this.#dir.path, `${name}.key`) };
  }
}

function newKey(file: string): string[] {
  return [
    'req',
    '-new',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    file,
  ];
}
