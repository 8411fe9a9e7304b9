import { domainToASCII } from 'node:url';
import * as v from 'valibot';

/** A mailbox: the name for people, and the address with its domain in ASCII (punycode). */
export interface MailAddress {
  readonly name: string;
  readonly address: string;
}

/** RFC 5321, 4.5.3.1: longest local part and domain, in octets. */
const MAX_LOCAL = 64;
const MAX_DOMAIN = 255;

/** `ops@example.org` or `GPU operations <ops@example.org>`; undefined where it is neither. */
export function parseMailAddress(text: string): MailAddress | undefined {
  const [, name = '', bracketed, bare] = /^(?:([^<>\p{Cc}]*)<([^<>]+)>|([^<>]+))$/u.exec(text.trim()) ?? [];
  const [, local, host] = /^([^\s@"(),:;[\]\\\p{Cc}]+)@([^\s@\p{Cc}]+)$/u.exec(bracketed ?? bare ?? '') ?? [];
  if (local === undefined || host === undefined) return undefined;
  const domain = domainToASCII(host);
  if (domain === '' || domain.length > MAX_DOMAIN || Buffer.byteLength(local) > MAX_LOCAL) return undefined;
  return { name: name.trim().replace(/^"(.*)"$/, '$1'), address: `${local}@${domain}` };
}

export const mailAddress = v.pipe(
  v.string('must be an e-mail address'),
  v.rawTransform<string, MailAddress>(({ dataset, addIssue, NEVER }) => {
    const parsed = parseMailAddress(dataset.value);
    if (parsed) return parsed;
    addIssue({ message: `must be an e-mail address, and is ${JSON.stringify(dataset.value)}` });
    return NEVER;
  }),
);
