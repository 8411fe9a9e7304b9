import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { lockFile } from './lock.ts';

/** One apt step may take this long; a mirror that stalls is given up. */
const STEP_TIMEOUT_MS = 180_000;
/** Kept of a failing step's output, bytes. */
const OUTPUT_LIMIT = 64 * 1024;

/** Where unpacked packages live: $XDG_CACHE_HOME/gpufleet or ~/.cache/gpufleet. */
export function packageCache(): string {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(base, 'gpufleet');
}

/** The cached tree of a package (its root: usr/bin/... below), newest version last; undefined where none is. */
export function cachedPackage(name: string): string | undefined {
  const cache = packageCache();
  if (!existsSync(cache)) return undefined;
  // "<name>-<version>": a Debian version starts with a digit, which tells nats-server-2.9 from nats-server-doc-1.
  const found = readdirSync(cache).filter(
    (entry) => entry.startsWith(`${name}-`) && /\d/.test(entry[name.length + 1] ?? ''),
  );
  const newest = found.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
  return newest === undefined ? undefined : join(cache, newest);
}

/**
 * Brings Debian packages without root and without installing them: `apt-get download` and `dpkg-deb -x` into the
 * cache folder, one tree `<name>-<version>` each, complete or not there at all. No system service, no system
 * folder is touched. Packages that are cached are not fetched again. Says each step through `log` first.
 *
 * @returns the cache folder, which then holds every named package.
 * @throws FleetError unavailable: no apt, no network, no such package, or too slow.
 */
export async function fetchDebianPackages(names: string[], log: (line: string) => void): Promise<string> {
  const cache = packageCache();
  if (names.every((name) => cachedPackage(name) !== undefined)) return cache;
  mkdirSync(cache, { recursive: true });
  using _lock = await lockFile(join(cache, 'fetch.lock'), {
    timeoutMs: 3 * STEP_TIMEOUT_MS,
    onWait: (holder) => log(`waiting for process ${holder.pid}, which is downloading the same packages`),
  });
  const missing = names.filter((name) => cachedPackage(name) === undefined);
  if (missing.length === 0) return cache;
  const work = mkdtempSync(join(cache, 'fetching-'));
  try {
    log(
      `downloading ${missing.join(' and ')} from this system's Debian package sources (not installing; into ${cache})`,
    );
    await download(missing, work, log);
    for (const file of readdirSync(work).filter((entry) => entry.endsWith('.deb'))) {
      await unpack(join(work, file), cache, work);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const still = missing.filter((name) => cachedPackage(name) === undefined);
  if (still.length > 0)
    throw new FleetError('unavailable', `Cannot download ${still.join(', ')}: apt gave other packages`);
  return cache;
}

/** With the system's package lists first; where those are missing or out of date, with lists of our own. */
async function download(names: string[], work: string, log: (line: string) => void): Promise<void> {
  // Run as root, apt drops to the user _apt, which may not write to our folder.
  const asCaller = [
    '-q',
    '-o',
    'APT::Sandbox::User=root',
    '-o',
    'Acquire::Retries=2',
    '-o',
    'Acquire::http::Timeout=30',
  ];
  try {
    await step('apt-get', [...asCaller, 'download', ...names], work);
    return;
  } catch (error) {
    if (!existsSync('/usr/bin/apt-get')) throw error;
  }
  const lists = join(work, 'lists');
  const archives = join(work, 'cache');
  mkdirSync(join(lists, 'partial'), { recursive: true });
  mkdirSync(join(archives, 'archives', 'partial'), { recursive: true });
  const own = [
    ...asCaller,
    '-o',
    `Dir::State::lists=${lists}`,
    '-o',
    `Dir::Cache=${archives}`,
    '-o',
    'Debug::NoLocking=true',
  ];
  log('the package lists of this system are missing or out of date: fetching lists for our own use');
  // A third-party source that is down makes update fail; what the other sources gave may still do.
  const update = await step('apt-get', [...own, 'update'], work).catch((error: unknown) => error);
  try {
    await step('apt-get', [...own, 'download', ...names], work);
  } catch (error) {
    throw update instanceof Error ? update : error;
  }
}

async function unpack(file: string, cache: string, work: string): Promise<void> {
  const name = (await step('dpkg-deb', ['-f', file, 'Package'], work)).trim();
  const version = (await step('dpkg-deb', ['-f', file, 'Version'], work)).trim();
  const tree = mkdtempSync(join(work, 'tree-'));
  await step('dpkg-deb', ['-x', file, tree], work);
  const target = join(cache, `${name}-${version.replaceAll(/[^A-Za-z0-9.+~-]/g, '_')}`);
  // A rename: another process sees the whole package or none.
  if (!existsSync(target)) renameSync(tree, target);
}

/** Runs one command to its end; its standard output, or a FleetError with the last of what it said. */
function step(command: string, args: string[], cwd: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: STEP_TIMEOUT_MS,
      killSignal: 'SIGKILL',
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (stdout.length < OUTPUT_LIMIT) stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < OUTPUT_LIMIT) stderr += text;
    });
    const action = `Cannot run ${command} ${args.filter((arg) => !arg.includes('::')).join(' ')}`;
    child.once('error', (cause) => reject(new FleetError('unavailable', action, { cause })));
    child.once('close', (status, signal) => {
      if (status === 0) return resolve(stdout);
      const words = stderr.trim().split('\n').slice(-3).join(' ');
      reject(
        new FleetError('unavailable', `${action}: ended with ${signal ?? status}: ${words || 'no message'}`),
      );
    });
  });
}

/** An executable of a cached package, by its path inside the package. */
export function cachedBinary(name: string, path: string): string | undefined {
  const tree = cachedPackage(name);
  if (tree === undefined) return undefined;
  const file = join(tree, path);
  return existsSync(file) && (statSync(file).mode & 0o111) !== 0 ? file : undefined;
}
