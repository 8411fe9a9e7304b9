import { isIP } from 'node:net';
import { createTransport, type SMTPTransportOptions } from 'nodemailer';
import * as v from 'valibot';
import { address } from '#shared/config/values.ts';
import type { Clock } from '#shared/model/clock.ts';
import { caFile, readAuthority } from '../../http/ca-file.ts';
import { SecretFile, secretFilePath, warnUnreadable } from '../../http/secret-file.ts';
import type { Delivery, Notification, Receiver } from '../notification.ts';
import { type EmailMessage, emailMessage } from './email-message.ts';
import { guarded } from './guarded-receiver.ts';
import { mailAddress } from './mail-address.ts';
import { commonSettings, type ReceiverDeps, type ReceiverKind } from './receiver-kind.ts';
import { RecentMap } from './recent-map.ts';
import { deliveryOfError, deliveryOfRejections } from './smtp-delivery.ts';

/** Notifications that some recipients have got and others not yet; the dispatcher retries far fewer at once. */
const MAX_PARTLY_SENT = 1_000;
/** The guard's deadline comes first; this is what ends a connection that nobody waits for any more. */
const SMTP_TIMEOUT_MS = 300_000;

const schema = v.pipe(
  v.strictObject({
    ...commonSettings,
    smarthost: address,
    from: mailAddress,
    to: v.pipe(
      v.array(mailAddress, 'must be a list of e-mail addresses'),
      v.minLength(1, 'must be at least one address'),
      v.maxLength(50, 'must be at most 50 addresses'),
    ),
    username: v.optional(v.pipe(v.string('must be text'), v.minLength(1), v.maxLength(256))),
    password_file: v.optional(secretFilePath),
    /** `starttls`: encrypted or not at all. `tls`: from the first byte, as on port 465. */
    tls: v.optional(v.picklist(['starttls', 'tls', 'none'], 'must be starttls, tls or none'), 'starttls'),
    ca_file: caFile,
    /** What we call ourselves in EHLO. */
    hello: v.optional(v.pipe(v.string('must be a host name'), v.regex(/^[A-Za-z0-9.:[\]-]{1,255}$/))),
  }),
  v.check(
    ({ username, password_file }) => (username === undefined) === (password_file === undefined),
    'username and password_file belong together, one is missing',
  ),
  v.check(
    ({ username, tls, smarthost }) => username === undefined || tls !== 'none' || isLoopback(smarthost.host),
    'would send the password unencrypted: set tls to starttls or tls',
  ),
);

type Settings = v.InferOutput<typeof schema>;

async function open(settings: Settings, deps: ReceiverDeps): Promise<Receiver> {
  const password = settings.password_file === undefined ? undefined : new SecretFile(settings.password_file);
  warnUnreadable([password], deps);
  const way = new EmailWay(settings, password, deps.clock);
  return guarded('email', way);
}

class EmailWay {
  readonly #settings: Settings;
  readonly #password: SecretFile | undefined;
  readonly #clock: Clock;
  readonly #transport: SMTPTransportOptions;
  /** By notification, who has got it: another try is for the others alone. */
  readonly #partlySent = new RecentMap<ReadonlySet<string>>(MAX_PARTLY_SENT);

  constructor(settings: Settings, password: SecretFile | undefined, clock: Clock) {
    this.#settings = settings;
    this.#password = password;
    this.#clock = clock;
    this.#transport = transportOptions(settings);
  }

  async send(notification: Notification, signal: AbortSignal): Promise<Delivery> {
    const had = this.#partlySent.get(notification.id);
    const recipients = this.#settings.to.map(({ address }) => address).filter((to) => !had?.has(to));
    const transport = createTransport({
      ...this.#transport,
      ...(this.#password && { auth: { user: this.#settings.username!, pass: this.#password.read() } }),
    });
    try {
      const domain = this.#settings.from.address.split('@')[1]!;
      const { accepted, rejectedErrors = [] } = await transport.sendMail({
        ...this.#headers(emailMessage(notification, domain)),
        envelope: { from: this.#settings.from.address, to: recipients },
        signal,
      });
      if (rejectedErrors.length === 0) {
        this.#partlySent.delete(notification.id);
        return { outcome: 'sent' };
      }
      const all = new Set([...(had ?? []), ...accepted]);
      this.#partlySent.set(notification.id, all);
      return deliveryOfRejections(rejectedErrors, all.size);
    } catch (error) {
      signal.throwIfAborted();
      return deliveryOfError(error, had?.size ?? 0);
    }
  }

  #headers({ subject, messageId, threadId, urgent, text, html }: EmailMessage) {
    return {
      from: this.#settings.from,
      to: [...this.#settings.to],
      subject,
      messageId,
      inReplyTo: threadId,
      references: [threadId],
      date: new Date(this.#clock.now()),
      ...(urgent && { priority: 'high' as const }),
      // RFC 3834: nobody's holiday notice answers it.
      headers: { 'Auto-Submitted': 'auto-generated' },
      text,
      html,
      disableFileAccess: true,
      disableUrlAccess: true,
    };
  }
}

/** Throws `invalid_config` where `ca_file` cannot be read. */
function transportOptions({ smarthost, tls, ca_file, hello }: Settings): SMTPTransportOptions {
  return {
    host: smarthost.host,
    port: smarthost.port,
    secure: tls === 'tls',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    ...(hello !== undefined && { name: hello }),
    ...(ca_file !== undefined && { tls: { ca: readAuthority(ca_file) } }),
    connectionTimeout: SMTP_TIMEOUT_MS,
    greetingTimeout: SMTP_TIMEOUT_MS,
    socketTimeout: SMTP_TIMEOUT_MS,
    dnsTimeout: SMTP_TIMEOUT_MS,
  };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Mail over SMTP: text and HTML, one thread for each group. */
export const EMAIL: ReceiverKind<Settings> = { schema, open };
