import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';

export type Role = 'viewer' | 'operator' | 'agent';

/** Who holds a token. */
export interface Caller {
  readonly role: Role;
  /** For logs; empty where the file gives none. */
  readonly name: string;
  /** The one node that an agent's token may speak for; any where undefined. */
  readonly node: string | undefined;
}

interface Entry extends Caller {
  readonly digest: string;
}

const ROLES: ReadonlySet<string> = new Set(['viewer', 'operator', 'agent']);
/** Shorter ones can be guessed. */
const MIN_TOKEN_CHARACTERS = 16;
const MAX_TOKENS = 100_000;
const LOOK_AGAIN_MS = 1_000;

/**
 * Tokens from a file, a line each: `<role> <token> [name] [node=<node>]`; a word that begins with `#` begins a
 * comment. The file is read again when it changes; a change that cannot be used leaves the tokens as they were, and
 * `onProblem` hears why.
 *
 * Only SHA-256 digests are kept, and a token is looked up by its digest: what the time of that can tell is about
 * the digest, which nobody can steer towards another one. Comparing with each entry in turn took 1.5 ms at 10,000
 * agents' tokens, 15 s of a core when all of them connect again.
 */
export class TokenFile {
  readonly #path: string;
  readonly #now: () => number;
  readonly #onProblem: (problem: string) => void;
  #callers: ReadonlyMap<string, Caller>;
  #stamp: string;
  #lookedAt: number;

  /** Throws `invalid_config` with every fault of the file, by line, and never with a token. */
  constructor(path: string, now: () => number, onProblem: (problem: string) => void) {
    this.#path = path;
    this.#now = now;
    this.#onProblem = onProblem;
    this.#stamp = stampOf(path);
    this.#callers = load(path);
    this.#lookedAt = now();
  }

  /** The holder of a token, or undefined. */
  check(token: string | undefined): Caller | undefined {
    this.#reload();
    if (token === undefined || token === '') return undefined;
    return this.#callers.get(digestOf(token));
  }

  #reload(): void {
    const now = this.#now();
    if (now - this.#lookedAt < LOOK_AGAIN_MS) return;
    this.#lookedAt = now;
    try {
      const stamp = stampOf(this.#path);
      if (stamp === this.#stamp) return;
      this.#stamp = stamp;
      this.#callers = load(this.#path);
    } catch (error) {
      this.#onProblem(`${describeError(error)}; the tokens stay as they were`);
    }
  }
}

/** The bearer token of an Authorization header, or undefined. */
export function bearerOf(header: string | undefined): string | undefined {
  return header !== undefined && /^bearer /i.test(header) ? header.slice(7).trim() : undefined;
}

function load(path: string): Map<string, Caller> {
  let text: string;
  try {
    const { mode } = statSync(path);
    if ((mode & 0o007) !== 0) {
      throw new FleetError(
        'invalid_config',
        `Cannot use token file ${path}: the world can read it (chmod 640 or 600)`,
      );
    }
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError('invalid_config', `Cannot read token file ${path}`, { cause: error });
  }
  const faults: string[] = [];
  const callers = new Map<string, Caller>();
  for (const [index, line] of text.split('\n').entries()) {
    const content = line.replace(/(^|\s)#.*/, '').trim();
    if (content === '') continue;
    const entry = parseLine(content);
    if (typeof entry === 'string') faults.push(`line ${index + 1}: ${entry}`);
    // Whichever of the two won, the other would be a surprise.
    else if (callers.has(entry.digest)) faults.push(`line ${index + 1}: its token is on an earlier line too`);
    else callers.set(entry.digest, { role: entry.role, name: entry.name, node: entry.node });
  }
  if (callers.size > MAX_TOKENS) faults.push(`${callers.size} tokens, at most ${MAX_TOKENS} are allowed`);
  if (faults.length > 0)
    throw new FleetError(
      'invalid_config',
      `Cannot use token file ${path}:\n  ${faults.slice(0, 20).join('\n  ')}`,
    );
  return callers;
}

function parseLine(content: string): Entry | string {
  const [role, token, ...rest] = content.split(/\s+/);
  if (!ROLES.has(role!)) return 'must begin with a role: viewer, operator or agent';
  if (token === undefined || token.length < MIN_TOKEN_CHARACTERS)
    return `its token must have at least ${MIN_TOKEN_CHARACTERS} characters`;
  const [node, ...furtherNodes] = rest.flatMap((word) => (word.startsWith('node=') ? [word.slice(5)] : []));
  // A slip such as "nodes=a" must not make a token that may speak for any node.
  const [name = '', ...furtherNames] = rest.filter((word) => !word.startsWith('node='));
  if (name.includes('=') || furtherNames.length > 0)
    return 'after the token there may be one name and node=<node>, nothing else';
  if (node === '' || furtherNodes.length > 0) return 'node= must name one node';
  if (node !== undefined && role !== 'agent') return 'only an agent is bound to a node';
  return { role: role as Role, name, node, digest: digestOf(token) };
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('base64');
}

function stampOf(path: string): string {
  try {
    // Not the time of the content alone: a chmod that mends the file must be seen too.
    const { ctimeMs, mtimeMs, size, ino } = statSync(path);
    return `${ctimeMs} ${mtimeMs} ${size} ${ino}`;
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read token file ${path}`, { cause: error });
  }
}
