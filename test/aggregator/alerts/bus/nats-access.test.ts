import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nkeys } from '@nats-io/transport-node';
import { describe, expect, it } from 'vitest';
import { type NatsAccess, natsAccess } from '../../../../aggregator/alerts/bus/nats-access.ts';
import { TestAuthority } from '../../../shared/security/certificates.ts';
import { type NatsServer, startNats } from '../../../support/nats-server.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { until } from '../../../support/wait.ts';
import { alertOf } from '../alert-of.ts';
import { drained, openBus } from './open-bus.ts';
import { writeOperator } from './operator-server.ts';

/** A file with a secret; returns its path. */
async function secret(temp: TempDir, name: string, text: string): Promise<string> {
  const file = join(temp.path, name);
  await writeFile(file, text, { mode: 0o600 });
  return file;
}

async function serverWith(temp: TempDir, config: string): Promise<NatsServer> {
  return startNats({ flags: ['-c', await secret(temp, 'server.conf', config)] });
}

/** Whether a transition reaches the stream of this server. */
async function publishes(temp: TempDir, url: string, access: NatsAccess): Promise<void> {
  await using opened = await openBus(join(temp.path, 'spool'), undefined, {
    nats: { servers: [url], credentials: natsAccess(access) },
  });
  opened.bus.publish(alertOf('0', 1));
  await drained(opened.bus);
}

/** Why the server does not let us in. */
async function refusal(temp: TempDir, url: string, access: NatsAccess): Promise<string> {
  await using opened = await openBus(join(temp.path, 'refused'), undefined, {
    nats: { servers: [url], credentials: natsAccess(access) },
  });
  const { bus } = opened;
  await until(() => !['', 'not yet connected'].includes(bus.status().reason), {
    timeoutMs: 20_000,
    what: 'the reason',
  });
  expect(bus.status().nats).toBe('disconnected');
  return bus.status().reason;
}

describe('access to a nats-server that wants to know who comes', () => {
  it('by user and password, and is refused with a wrong one', async () => {
    await using temp = tempDir('access');
    await using nats = await serverWith(
      temp,
      'authorization { users: [{ user: fleet, password: "s3cret" }] }',
    );
    const password_file = await secret(temp, 'password', 's3cret\n');
    await publishes(temp, nats.url, { user: 'fleet', password_file });
    const wrong = await secret(temp, 'wrong', 'guess');
    expect(await refusal(temp, nats.url, { user: 'fleet', password_file: wrong })).toMatch(/authorization/i);
    expect(await refusal(temp, nats.url, {})).toMatch(/authorization/i);
  });

  it('by token, and with the new one at the next connection after it was changed', async () => {
    await using temp = tempDir('access');
    await using nats = await serverWith(temp, 'authorization { token: "first" }');
    const token_file = await secret(temp, 'token', 'first\n');
    await using opened = await openBus(join(temp.path, 'spool'), undefined, {
      nats: { servers: [nats.url], credentials: natsAccess({ token_file }) },
    });
    opened.bus.publish(alertOf('0', 1));
    await drained(opened.bus);
    await secret(temp, 'server.conf', 'authorization { token: "second" }');
    await secret(temp, 'token', 'second\n');
    await nats.restart();
    opened.bus.publish(alertOf('0', 2));
    await drained(opened.bus);
  });

  it('by nkey: the server has the public key alone, the seed never leaves this side', async () => {
    await using temp = tempDir('access');
    const user = nkeys.createUser();
    await using nats = await serverWith(temp, `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`);
    const nkey_file = await secret(temp, 'seed', `${new TextDecoder().decode(user.getSeed())}\n`);
    await publishes(temp, nats.url, { nkey_file });
    const other = await secret(temp, 'other', new TextDecoder().decode(nkeys.createUser().getSeed()));
    expect(await refusal(temp, nats.url, { nkey_file: other })).toMatch(/authorization/i);
  });

  it('by a .creds file, to a server in operator mode', async () => {
    await using temp = tempDir('access');
    const { config, credentials } = await writeOperator(temp.path);
    await using nats = await startNats({ flags: ['-c', config] });
    await publishes(temp, nats.url, { credentials });
    await using elsewhere = tempDir('access');
    const other = await writeOperator(elsewhere.path);
    expect(await refusal(temp, nats.url, { credentials: other.credentials })).toMatch(/authorization/i);
  });

  it('over TLS with certificates of both sides; not without one, not to a server of another name or authority', async () => {
    await using temp = tempDir('access');
    await using authority = await TestAuthority.create();
    await using stranger = await TestAuthority.create();
    const server = await authority.issue('server', 'IP:127.0.0.1');
    const client = await authority.issue('client');
    const files = `cert_file: "${server.cert}", key_file: "${server.key}", ca_file: "${authority.ca}"`;
    await using nats = await serverWith(temp, `tls { ${files}, verify: true }`);
    await publishes(temp, nats.url, { tls: { ca: authority.ca, ...client } });
    const elsewhere = nats.url.replace('127.0.0.1', 'localhost');
    expect(await refusal(temp, elsewhere, { tls: { ca: authority.ca, ...client } })).toMatch(/altnames/);
    expect(await refusal(temp, nats.url, { tls: { ca: authority.ca } })).not.toBe('');
    expect(await refusal(temp, nats.url, { tls: { ca: stranger.ca, ...client } })).toMatch(
      /certificate|issuer/i,
    );
  });

  it('says nothing, so no token, to a server without TLS where TLS is asked for', async () => {
    await using temp = tempDir('access');
    await using nats = await startNats();
    const token_file = await secret(temp, 'token', 'precious');
    expect(await refusal(temp, nats.url, { token_file, tls: {} })).toMatch(/tls/i);
  });
});

describe('settings of access that cannot be meant', () => {
  it.each<[string, NatsAccess, string]>([
    ['two ways at once', { token_file: '/t', nkey_file: '/n' }, 'only one of'],
    ['a user without a password', { user: 'fleet' }, 'go together'],
    ['a certificate without its key', { tls: { cert: '/c' } }, 'go together'],
    ['a file that is not there', { token_file: '/nowhere/token' }, 'Cannot read /nowhere/token'],
  ])('are refused at the start: %s', (_, access, why) => {
    expect(() => natsAccess(access)).toThrow(why);
  });

  it('are refused at the start: an empty secret', async () => {
    await using temp = tempDir('access');
    const token_file = await secret(temp, 'token', '');
    expect(() => natsAccess({ token_file })).toThrow('is empty');
  });
});
