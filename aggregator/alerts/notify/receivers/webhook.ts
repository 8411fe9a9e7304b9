import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { HttpCaller, httpSettings, plainUrl } from '../../http/http-caller.ts';
import { credentialSettings, HttpCredentials, oneCredential } from '../../http/http-credentials.ts';
import { SecretFile, secretFilePath, warnUnreadable } from '../../http/secret-file.ts';
import { SIGNATURE_HEADER, signature } from '../../http/signature.ts';
import type { Receiver } from '../notification.ts';
import { guarded } from './guarded-receiver.ts';
import { commonSettings, type ReceiverDeps, type ReceiverKind } from './receiver-kind.ts';
import { webhookBody } from './webhook-body.ts';

/** Ours to set; a credential in the configuration would be one in the repository that it is kept in. */
const RESERVED_HEADERS = new Set([
  'authorization',
  'connection',
  'content-length',
  'content-type',
  'host',
  'idempotency-key',
  'transfer-encoding',
  SIGNATURE_HEADER,
]);

const headers = v.pipe(
  v.record(
    v.pipe(
      v.string(),
      v.regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/, 'is not a header name'),
      v.check(
        (name) => !RESERVED_HEADERS.has(name.toLowerCase()),
        'is set by the product: credentials belong into bearer_token_file or basic_auth',
      ),
    ),
    v.pipe(
      v.string('must be text'),
      v.regex(
        /^[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?$/,
        'must be 1 to 1024 printable ASCII characters',
      ),
    ),
  ),
  v.check((all) => Object.keys(all).length <= 16, 'must be at most 16 headers'),
);

const schema = v.pipe(
  v.strictObject({
    ...commonSettings,
    ...httpSettings,
    ...credentialSettings,
    url: v.optional(plainUrl),
    /** For a URL that is a secret itself. */
    url_file: v.optional(secretFilePath),
    /** Signs the body; see signature.ts. */
    secret_file: v.optional(secretFilePath),
    headers: v.optional(headers, {}),
  }),
  v.check(({ url, url_file }) => (url === undefined) !== (url_file === undefined), 'give url or url_file'),
  v.check((settings) => oneCredential(settings), 'give basic_auth or bearer_token_file, not both'),
);

async function open(settings: v.InferOutput<typeof schema>, deps: ReceiverDeps): Promise<Receiver> {
  const { clock, name } = deps;
  const caller = new HttpCaller(settings, clock);
  const credentials = new HttpCredentials(settings);
  const urlFile = settings.url_file === undefined ? undefined : new SecretFile(settings.url_file);
  const key = settings.secret_file === undefined ? undefined : new SecretFile(settings.secret_file);
  warnUnreadable([credentials.file, urlFile, key], deps);
  return guarded('webhook', {
    async send(notification, signal) {
      const { headers, secrets } = credentials.authorization();
      const secretUrl = urlFile?.readUrl();
      const secret = key?.read();
      const body = webhookBody(notification, name);
      const seconds = Math.floor(clock.now() / 1_000);
      const { delivery } = await caller.post({
        url: secretUrl ?? settings.url!,
        headers: {
          ...settings.headers,
          ...headers,
          'idempotency-key': idempotencyKey(notification.id),
          ...(secret !== undefined && { [SIGNATURE_HEADER]: signature(secret, seconds, body) }),
        },
        body,
        signal,
        secrets: [...secrets, secretUrl ?? '', secret ?? ''],
      });
      return delivery;
    },
    close: () => caller.close(),
  });
}

/** Ids come from elsewhere: one that no header can hold is told by its hash. */
function idempotencyKey(id: string): string {
  return /^[\x21-\x7e]{1,255}$/.test(id) ? id : createHash('sha256').update(id).digest('hex');
}

/** JSON to any web server, signed. */
export const WEBHOOK: ReceiverKind<v.InferOutput<typeof schema>> = { schema, open };
