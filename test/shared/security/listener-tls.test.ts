import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { certificateNode, readListenerTls } from '#shared/security/listener-tls.ts';
import { TestAuthority } from './certificates.ts';

// What a certificate is read as decides which node its holder may write for.
test.each([
  ['a SPIFFE id before all else', 'DNS:other, URI:spiffe://fleet.example/ns/gpu/node/node-1', 'cn', 'node-1'],
  ['a SPIFFE id without a path before it', 'URI:spiffe://fleet/node/node-1', 'cn', 'node-1'],
  ['a SPIFFE id of something else', 'URI:spiffe://fleet/service/node-1', 'cn', 'cn'],
  ['an URI that is no SPIFFE id', 'URI:https://fleet/node/node-1', 'cn', 'cn'],
  ['the first DNS name', 'DNS:node-1, DNS:node-2', 'cn', 'node-1'],
  ['the common name last', undefined, 'cn', 'cn'],
  ['nothing', undefined, undefined, undefined],
  ['addresses name no node', 'IP Address:10.0.0.1', undefined, undefined],
  // Node quotes a name that has a comma, so that it cannot pass for a second one.
  [
    'a comma in a name',
    'DNS:"x, URI:spiffe://fleet/node/victim, y"',
    'cn',
    '"x, URI:spiffe://fleet/node/victim, y"',
  ],
  [
    'quotes in a name',
    'DNS:"a\\", URI:spiffe://fleet/node/victim, b"',
    'cn',
    '"a\\", URI:spiffe://fleet/node/victim, b"',
  ],
])('%s', (_, subjectaltname, commonName, expected) => {
  const node = certificateNode({
    ...(subjectaltname !== undefined && { subjectaltname }),
    ...(commonName !== undefined && { subject: { CN: commonName } }),
  });
  expect(node).toBe(expected);
});

test('no certificate is no node; of several common names the first counts', () => {
  expect(certificateNode(undefined)).toBeUndefined();
  expect(certificateNode({})).toBeUndefined();
  expect(certificateNode({ subject: { CN: ['a', 'b'] } })).toBe('a');
});

test('files that cannot be used are said by name, and the key is not printed', async () => {
  await using authority = await TestAuthority.create();
  const [a, b] = await Promise.all([authority.issue('a'), authority.issue('b')]);
  await expect(readListenerTls({ ...a, ca: authority.ca })).resolves.toMatchObject({
    ca: expect.any(Buffer),
  });
  await expect(readListenerTls(a)).resolves.toMatchObject({ ca: undefined });
  const message = async (files: Parameters<typeof readListenerTls>[0]): Promise<string> => {
    const error = await readListenerTls(files).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'invalid_config' });
    return (error as Error).message;
  };
  expect(await message({ cert: a.cert, key: b.key })).toBe(
    `Cannot use certificate ${a.cert} with key ${b.key}`,
  );
  expect(await message({ ...a, key: '/nowhere' })).toBe('Cannot read TLS file /nowhere');
  expect(await message({ ...a, ca: '/nowhere' })).toBe('Cannot read TLS file /nowhere');
  await writeFile(a.key, 'no key');
  expect(await message(a)).toContain(a.key);
});
