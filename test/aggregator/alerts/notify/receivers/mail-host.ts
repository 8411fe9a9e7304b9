import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import type { CertificateFiles } from '../../../../shared/security/certificates.ts';

export interface TakenMail {
  readonly from: string;
  readonly to: readonly string[];
  readonly user: string | undefined;
  readonly encrypted: boolean;
  /** As it came over the wire. */
  readonly raw: string;
}

/** A reply of the server: its code and words. */
export interface Reply {
  readonly code: number;
  readonly words: string;
}

/** A real SMTP server on loopback; what it says to whom can be changed as it runs. */
export interface MailHost extends AsyncDisposable {
  readonly port: number;
  readonly taken: readonly TakenMail[];
  /** Messages that were sent to it to their end, whatever became of them. */
  readonly reached: number;
  /** Open now. */
  connections(): number;
  /** Instead of 250, to MAIL FROM, by recipient, and to the message. */
  sender: Reply | undefined;
  readonly recipients: Map<string, Reply>;
  message: Reply | undefined;
  /** Says nothing to the message, and holds the connection. */
  hang: boolean;
}

interface MailHostOptions {
  readonly certificate?: CertificateFiles;
  /** TLS from the first byte. */
  readonly secure?: boolean;
  readonly login?: { readonly user: string; readonly password: string };
  readonly hideStartTls?: boolean;
}

function failure({ code, words }: Reply): Error {
  return Object.assign(new Error(words), { responseCode: code });
}

export async function startMailHost(options: MailHostOptions = {}): Promise<MailHost> {
  const { certificate, secure = false, login, hideStartTls = certificate === undefined } = options;
  const taken: TakenMail[] = [];
  let reached = 0;
  const server = new SMTPServer({
    ...{
      logger: false,
      closeTimeout: 50,
      authOptional: login === undefined,
      secure,
      hideSTARTTLS: hideStartTls,
    },
    ...(certificate && { cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) }),
    ...(login === undefined && { disabledCommands: ['AUTH'] }),
    onAuth({ username, password }, _, done) {
      const right = username === login?.user && password === login?.password;
      done(right ? null : failure({ code: 535, words: 'Authentication failed' }), { user: username! });
    },
    onMailFrom(_, __, done) {
      done(host.sender && failure(host.sender));
    },
    onRcptTo({ address }, _, done) {
      const reply = host.recipients.get(address);
      done(reply && failure(reply));
    },
    onData(stream, { envelope, user, secure: encrypted }, done) {
      const parts: Buffer[] = [];
      stream.on('data', (part: Buffer) => parts.push(part));
      stream.on('end', () => {
        reached++;
        if (host.hang) return;
        if (host.message) return done(failure(host.message));
        const from = envelope.mailFrom === false ? '' : envelope.mailFrom.address;
        const to = envelope.rcptTo.map(({ address }) => address);
        taken.push({
          from,
          to,
          user: user as string | undefined,
          encrypted,
          raw: Buffer.concat(parts).toString(),
        });
        done();
      });
    },
  });
  // A client that goes away in the middle is what some tests are about.
  server.on('error', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host: MailHost = {
    port: (server.server.address() as AddressInfo).port,
    taken,
    get reached() {
      return reached;
    },
    connections: () => server.connections.size,
    sender: undefined,
    recipients: new Map(),
    message: undefined,
    hang: false,
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => server.close(resolve));
    },
  };
  return host;
}
