import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { connect as connectTcp, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls } from 'node:tls';
import { type Address, showAddress } from '#shared/config/values.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { AgentConfig } from '../config.ts';
import { channelCredentials } from '../uplink/channel-credentials.ts';
import { openIngestStream } from '../uplink/ingest-stream.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

/** Each aggregator, step by step: TCP, TLS, token. The first step that fails is said. */
export async function examineNetwork(config: AgentConfig, timeoutMs: number): Promise<Finding[]> {
  return await Promise.all(
    config.aggregators.map((address) => examineAggregator(config, address, timeoutMs)),
  );
}

async function examineAggregator(config: AgentConfig, address: Address, timeoutMs: number): Promise<Finding> {
  const what = `aggregator ${showAddress(address)}`;
  try {
    await reach(connectTcp(address), 'connect', timeoutMs);
  } catch (error) {
    return fail(
      what,
      `TCP: ${describeError(error)}`,
      'is the aggregator running, the address right, the port open in the firewalls?',
    );
  }
  try {
    if (config.tls) await shakeHands(config, address, timeoutMs);
  } catch (error) {
    return fail(
      what,
      `TLS: ${describeError(error)}`,
      'compare tls.ca and tls.server_name with the certificate of the aggregator',
    );
  }
  try {
    await showToken(config, address, timeoutMs);
  } catch (error) {
    const isRefused =
      error instanceof FleetError && (error.code === 'unauthenticated' || error.code === 'permission_denied');
    return isRefused
      ? fail(
          what,
          `token: ${describeError(error)}`,
          'put a token of role agent from ingest.tokens of the aggregator into token_file',
        )
      : fail(
          what,
          `stream: ${describeError(error)}`,
          'is this the ingest port of an aggregator, and do both use TLS or both not?',
        );
  }
  const token = config.token_file === undefined ? 'none is asked for' : 'the token is accepted';
  return ok(what, `reached${config.tls ? ' over TLS' : ', without TLS'}; ${token}`);
}

async function shakeHands({ tls }: AgentConfig, address: Address, timeoutMs: number): Promise<void> {
  const read = (file: string | undefined): Promise<Buffer> | undefined =>
    file === undefined ? undefined : readFile(file);
  const [ca, cert, key] = await Promise.all([read(tls?.ca), read(tls?.cert), read(tls?.key)]);
  const name = tls?.server_name ?? address.host;
  const socket = connectTls({
    ...address,
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    ALPNProtocols: ['h2'],
    checkServerIdentity: (_, certificate) => checkServerIdentity(name, certificate),
  });
  await reach(socket, 'secureConnect', timeoutMs);
}

async function reach(socket: Socket, event: 'connect' | 'secureConnect', timeoutMs: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once(event, resolve);
      socket.once('error', reject);
      socket.setTimeout(timeoutMs, () => reject(new Error(`no answer within ${timeoutMs} ms`)));
    });
  } finally {
    socket.on('error', () => {});
    socket.destroy();
  }
}

/**
 * A stream without a Hello, ended at once: the aggregator looks at the token first. With one it would be a run of
 * this node beside the running agent's.
 */
async function showToken(config: AgentConfig, address: Address, timeoutMs: number): Promise<void> {
  const token =
    config.token_file === undefined ? undefined : (await readFile(config.token_file, 'utf8')).trim();
  using stream = openIngestStream(
    showAddress(address),
    await channelCredentials(config.tls),
    token,
    () => {},
  );
  stream.end();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new FleetError('unavailable', `no answer within ${timeoutMs} ms`)),
      timeoutMs,
    );
  });
  try {
    await Promise.race([stream.ended, late]);
  } catch (error) {
    // That there was no Hello is what it may complain about: by then the token was good.
    if (!(error instanceof FleetError) || error.code !== 'invalid_input') throw error;
  } finally {
    clearTimeout(timer);
  }
}

const DAY_MS = 86_400_000;
/** Let's Encrypt and most internal authorities renew 30 days before the end. */
const RENEW_BEFORE_MS = 30 * DAY_MS;

/** When each certificate of the configuration ends, and whether the token file is kept from others. */
export async function examineCertificates(config: AgentConfig, nowMs: number): Promise<Finding[]> {
  const files = [
    ['tls.ca', config.tls?.ca],
    ['tls.cert', config.tls?.cert],
    ['exporter.tls.cert', config.exporter.tls?.cert],
    ['exporter.tls.ca', config.exporter.tls?.ca],
  ] as const;
  const named = files.filter(
    (pair): pair is readonly [(typeof files)[number][0], string] => pair[1] !== undefined,
  );
  const findings = await Promise.all(
    named.map(([setting, file]) => examineCertificate(setting, file, nowMs)),
  );
  return [...findings, ...(await examineTokenFile(config.token_file))];
}

async function examineCertificate(setting: string, file: string, nowMs: number): Promise<Finding> {
  const what = `certificate ${setting}`;
  try {
    const { validTo } = new X509Certificate(await readFile(file));
    const left = Date.parse(validTo) - nowMs;
    const days = Math.floor(left / DAY_MS);
    const text = `${file} ends ${validTo}`;
    if (left <= 0) return fail(what, `${text}: it is over`, 'renew it; the agent reads it at its next start');
    if (left < RENEW_BEFORE_MS) return warn(what, `${text}, in ${days} days`, 'renew it');
    return ok(what, `${text}, in ${days} days`);
  } catch (error) {
    return fail(
      what,
      `${file}: ${describeError(error)}`,
      'name a PEM file that the user of the agent may read',
    );
  }
}

/** Read bit of others. */
const OTHERS_READ = 0o004;

async function examineTokenFile(file: string | undefined): Promise<Finding[]> {
  if (file === undefined) return [];
  try {
    const { mode } = await stat(file);
    return [
      (mode & OTHERS_READ) !== 0
        ? warn('token file', `everybody on this machine may read ${file}`, `chmod o-r ${file}`)
        : ok('token file', `${file} is kept from others`),
    ];
  } catch (error) {
    return [
      fail(
        'token file',
        `${file}: ${describeError(error)}`,
        'name a file that the user of the agent may read',
      ),
    ];
  }
}
