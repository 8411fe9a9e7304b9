import { ServerCredentials } from '@grpc/grpc-js';
import type { ListenerTls } from '#shared/security/listener-tls.ts';

/** How agents must come: in clear, over TLS, or with a certificate of their own where there is a CA. */
export function serverCredentials(tls: ListenerTls | undefined): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  return ServerCredentials.createSsl(
    tls.ca ?? null,
    [{ private_key: tls.key, cert_chain: tls.cert }],
    tls.ca !== undefined,
  );
}
