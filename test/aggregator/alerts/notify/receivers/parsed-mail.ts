import { execFileSync, spawnSync } from 'node:child_process';
import { skipLoudly } from '../../../../support/data.ts';

/** A mail as Python's email package reads it: a reader that we did not write. */
export interface ParsedMail {
  /** In their order, decoded, as [name, value]. */
  readonly headers: readonly (readonly [string, string])[];
  readonly types: readonly string[];
  readonly text: string;
  readonly html: string;
  /** What the parser had to put up with; empty for a mail that is right. */
  readonly defects: readonly string[];
}

const READ = `
import email, email.policy, json, sys
mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
parts = list(mail.walk())
defects = [str(d) for part in parts for d in part.defects]
defects += [str(d) for part in parts for value in part.values() for d in getattr(value, "defects", ())]
body = lambda kind: mail.get_body((kind,)).get_content() if mail.get_body((kind,)) else ""
print(json.dumps({
  "headers": [[name, str(value)] for name, value in mail.items()],
  "types": [part.get_content_type() for part in parts],
  "text": body("plain"), "html": body("html"), "defects": defects,
}))
`;

export function parsedMail(raw: string): ParsedMail {
  const mail = execFileSync('python3', ['-c', READ], { input: raw, maxBuffer: 2 ** 24 });
  return JSON.parse(mail.toString()) as ParsedMail;
}

/** The one value of a header; throws where there are several or none. */
export function headerOf({ headers }: ParsedMail, name: string): string {
  const [found, ...more] = headers.filter(([key]) => key.toLowerCase() === name.toLowerCase());
  if (found === undefined || more.length > 0) throw new Error(`${more.length + 1} or no headers ${name}`);
  return found[1];
}

export function canParseMail(): boolean {
  if (process.env.CI || spawnSync('python3', ['--version']).status === 0) return true;
  skipLoudly('tests that read mail with Python: no python3');
  return false;
}
