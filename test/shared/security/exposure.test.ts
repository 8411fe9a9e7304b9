import { expect, test } from 'vitest';
import { exposureFault, isLoopback } from '#shared/security/exposure.ts';

// The wrong answer here is a fleet that anyone on the network can read or feed.
test.each([
  ['127.0.0.1', true],
  ['127.1.2.3', true],
  ['::1', true],
  ['localhost', true],
  ['0.0.0.0', false],
  ['::', false],
  ['10.0.0.1', false],
  ['::ffff:127.0.0.1', false],
  ['127.0.0.1.attacker.example', false],
  ['localhost.attacker.example', false],
  ['127.example', false],
  ['', false],
])('%s is loopback: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});

const BEYOND = { host: '0.0.0.0', port: 7480 };
const LOOPBACK = { host: '127.0.0.1', port: 7480 };

test.each([
  ['loopback asks nobody', { listen: LOOPBACK, allow_unauthenticated: false }, false],
  ['beyond loopback asks nobody', { listen: BEYOND, allow_unauthenticated: false }, true],
  ['TLS alone asks nobody', { listen: BEYOND, tls: {}, allow_unauthenticated: false }, true],
  ['tokens are asked for', { listen: BEYOND, tokens: '/t', allow_unauthenticated: false }, false],
  [
    'client certificates are asked for',
    { listen: BEYOND, tls: { ca: '/ca' }, allow_unauthenticated: false },
    false,
  ],
  ['it was meant', { listen: BEYOND, allow_unauthenticated: true }, false],
] as const)('%s', (_, listener, faulty) => {
  const fault = exposureFault('api', listener);
  if (!faulty) expect(fault).toBeUndefined();
  else
    expect(fault).toEqual({
      path: 'api.listen',
      message:
        '0.0.0.0:7480 is not loopback: set api.tokens or api.tls.ca, or api.allow_unauthenticated: true if that is meant',
    });
});
