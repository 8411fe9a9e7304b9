import { createHmac } from 'node:crypto';

export const SIGNATURE_HEADER = 'x-gpufleet-signature';

/**
 * `t=<unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`: the time is signed too, so that whoever checks it can
 * refuse an old body that was recorded and sent again.
 */
export function signature(secret: string, unixSeconds: number, body: string): string {
  const mac = createHmac('sha256', secret).update(`${unixSeconds}.${body}`).digest('hex');
  return `t=${unixSeconds},v1=${mac}`;
}
