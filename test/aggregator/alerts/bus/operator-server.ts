import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nkeys } from '@nats-io/transport-node';

type Pair = ReturnType<typeof nkeys.createUser>;

/**
 * Writes what `nsc` would: a server configuration in operator mode (accounts and users are JWTs, signed with nkeys), and
 * the credentials of one user of an account with JetStream. Returns their paths.
 */
export async function writeOperator(folder: string): Promise<{ config: string; credentials: string }> {
  const operator = nkeys.createOperator();
  const system = nkeys.createAccount();
  const account = nkeys.createAccount();
  const user = nkeys.createUser();
  const unlimited = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, conn: -1, leaf: -1 };
  const store = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const accountOf = (of: Pair, limits: Readonly<Record<string, number>>) =>
    sign(operator, of, { type: 'account', version: 2, limits: { ...unlimited, ...limits, wildcards: true } });
  const operatorJwt = sign(operator, operator, {
    ...{ type: 'operator', version: 2, system_account: system.getPublicKey() },
  });
  const config = join(folder, 'operator.conf');
  await writeFile(
    config,
    [
      `operator: ${operatorJwt}`,
      `system_account: ${system.getPublicKey()}`,
      'resolver: MEMORY',
      'resolver_preload: {',
      `  ${system.getPublicKey()}: ${accountOf(system, {})}`,
      `  ${account.getPublicKey()}: ${accountOf(account, store)}`,
      '}',
    ].join('\n'),
  );
  const userJwt = sign(account, user, {
    ...{ type: 'user', version: 2, pub: {}, sub: {}, subs: -1, data: -1, payload: -1 },
  });
  const credentials = join(folder, 'user.creds');
  await writeFile(credentials, credsFile(userJwt, user), { mode: 0o600 });
  return { config, credentials };
}

/** A JWT as NATS has them: the issuer's nkey signs header and claims. */
function sign(issuer: Pair, subject: Pair, nats: Readonly<Record<string, unknown>>): string {
  const claims = {
    jti: `${subject.getPublicKey()}-1`,
    iat: 1_767_225_600,
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name: 'test',
    nats,
  };
  const text = [{ typ: 'JWT', alg: 'ed25519-nkey' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${text}.${Buffer.from(issuer.sign(Buffer.from(text))).toString('base64url')}`;
}

function credsFile(jwt: string, user: Pair): string {
  return [
    '-----BEGIN NATS USER JWT-----',
    jwt,
    '------END NATS USER JWT------',
    '',
    '-----BEGIN USER NKEY SEED-----',
    new TextDecoder().decode(user.getSeed()),
    '------END USER NKEY SEED------',
    '',
  ].join('\n');
}
