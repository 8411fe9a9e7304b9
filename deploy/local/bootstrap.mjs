// The way in: `npm start`, `npm test` and the other scripts of package.json come here, on whatever Node (20 or
// later) the machine has, possibly with no node_modules at all. This file therefore imports nothing but Node
// itself. It completes node_modules, finds the pinned Node, and hands over to it.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const MODULES = join(ROOT, 'node_modules');
const MARKER = join(MODULES, '.gpufleet-installed');
const LOCK = join(ROOT, '.cache', 'install.lock');

/** The oldest Node that this file runs on, and the one the product needs (it runs TypeScript as it is). */
const OLDEST_NODE = 20;
const PRODUCT_NODE = 24;
/** A lock older than this is left over, whatever its process id says: npm is stopped long before. */
const LOCK_LIMIT_MS = 30 * 60_000;

/** command -> what the pinned Node runs. */
const VITEST = ['node_modules/vitest/vitest.mjs', 'run'];
const COMMANDS = {
  start: { run: ['deploy/local/start.ts'] },
  test: { run: VITEST },
  'test:all': { run: VITEST, env: { GPUFLEET_TESTS: 'all' } },
  'test:fault': { run: ['test/fault/main.ts'] },
  bench: { run: ['benchmarks/main.ts'] },
  check: { run: ['deploy/local/check.ts'] },
  bundle: { run: ['deploy/local/bundle.ts'] },
  gpufleet: { run: ['aggregator/cli/main.ts'] },
};

class BootstrapError extends Error {}

function say(line) {
  process.stderr.write(`gpufleet: ${line}\n`);
}

/** Hash of what decides the content of node_modules; scripts in package.json do not. */
function dependencyHash() {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const parts = [manifest.dependencies, manifest.devDependencies, manifest.optionalDependencies];
  const lockFile = join(ROOT, 'package-lock.json');
  return createHash('sha256')
    .update(JSON.stringify(parts))
    .update(existsSync(lockFile) ? readFileSync(lockFile) : '')
    .update(`${process.platform}-${process.arch}`)
    .digest('hex');
}

function isInstalled() {
  try {
    return readFileSync(MARKER, 'utf8') === dependencyHash();
  } catch {
    return false;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Takes the lock, or throws EEXIST: a link appears with its content or not at all. */
function tryLock() {
  const mine = `${LOCK}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, LOCK);
  } finally {
    rmSync(mine, { force: true });
  }
}

/** Two runs at once do not install over each other: the second waits, then finds the work done. */
async function lockInstall() {
  mkdirSync(dirname(LOCK), { recursive: true });
  for (let told = false; ; ) {
    try {
      tryLock();
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    try {
      const holder = Number(readFileSync(LOCK, 'utf8'));
      const tooOld = Date.now() - statSync(LOCK).mtimeMs > LOCK_LIMIT_MS;
      if (!isAlive(holder) || tooOld) {
        rmSync(LOCK, { force: true });
        continue;
      }
      if (!told) say(`waiting for another run (process ${holder}) that is installing the dependencies`);
      told = true;
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
    await sleep(200);
  }
}

/** `npm install`, not `npm ci`: ci refuses packages whose builds for other platforms a mirror does not have. */
async function npmInstall() {
  // --no-save leaves package-lock.json alone; --include brings development tools under NODE_ENV=production too.
  const args = [
    'install',
    '--no-save',
    '--include=dev',
    '--include=optional',
    '--ignore-scripts',
    '--no-audit',
  ];
  args.push('--no-fund', '--loglevel=error');
  const npm = process.env.npm_execpath?.endsWith('.js')
    ? { command: process.execPath, args: [process.env.npm_execpath, ...args] }
    : { command: 'npm', args };
  const code = await new Promise((resolve, reject) => {
    // Its output goes to standard error: standard output belongs to the command that was asked for.
    const child = spawn(npm.command, npm.args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
    child.once('error', (error) =>
      reject(
        new BootstrapError(
          `Cannot run npm: ${error.message}. Install npm (it comes with Node.js) and retry.`,
        ),
      ),
    );
    child.once('exit', (status, signal) => resolve(signal ?? status));
  });
  if (code !== 0) {
    throw new BootstrapError(
      `Cannot install the dependencies: npm install ended with ${code}. ` +
        'It needs the npm registry (or the mirror that your npm configuration names); its own words are above.',
    );
  }
}

async function ensureInstalled() {
  if (isInstalled()) return;
  await lockInstall();
  try {
    if (isInstalled()) return;
    say(
      'installing the dependencies and the pinned Node into node_modules (npm install; once, a minute or so)',
    );
    const started = Date.now();
    await npmInstall();
    writeFileSync(MARKER, dependencyHash());
    say(`dependencies installed in ${Math.round((Date.now() - started) / 1000)} s`);
  } finally {
    rmSync(LOCK, { force: true });
  }
}

/** The pinned Node of node_modules; elsewhere (no build for this platform) the running one if it is new enough. */
function findNode() {
  const pinned = join(MODULES, `node-${process.platform}-${process.arch}`, 'bin', 'node');
  if (existsSync(pinned)) return pinned;
  if (Number(process.versions.node.split('.')[0]) >= PRODUCT_NODE) return process.execPath;
  throw new BootstrapError(
    `Cannot run gpufleet on ${process.platform}-${process.arch} with Node ${process.versions.node}: ` +
      `there is no pinned Node for this platform. Install Node ${PRODUCT_NODE} or later and retry.`,
  );
}

/** Runs the command on `node`; passes signals and the exit status through. */
function handOver(node, command, args) {
  const { run, env } = COMMANDS[command];
  const path = [join(MODULES, '.bin'), process.env.PATH].filter(Boolean).join(delimiter);
  const child = spawn(node, [join(ROOT, run[0]), ...run.slice(1), ...args], {
    // A user's relative paths (--data DIR) mean the folder that npm was called in.
    cwd: command === 'start' || command === 'gpufleet' ? (process.env.INIT_CWD ?? process.cwd()) : ROOT,
    stdio: 'inherit',
    env: { ...process.env, ...env, PATH: path },
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      // A terminal has sent its Ctrl-C to the whole process group already; the child must not count it twice.
      if (signal === 'SIGINT' && process.stdin.isTTY) return;
      child.kill(signal);
    });
  }
  child.once('error', (error) => {
    say(`Cannot run ${node}: ${error.message}`);
    process.exitCode = 1;
  });
  child.once('exit', (status, signal) => {
    process.exitCode = signal === null ? status : 128 + constants.signals[signal];
  });
}

async function main([command, ...args]) {
  if (Number(process.versions.node.split('.')[0]) < OLDEST_NODE) {
    throw new BootstrapError(
      `Cannot run on Node ${process.versions.node}: gpufleet needs Node ${OLDEST_NODE} or later to begin with ` +
        `(it then brings its own Node ${PRODUCT_NODE}).`,
    );
  }
  if (!Object.hasOwn(COMMANDS, command ?? '')) {
    throw new BootstrapError(
      `Cannot run ${command ?? 'nothing'}: choose one of ${Object.keys(COMMANDS).join(', ')}.`,
    );
  }
  await ensureInstalled();
  handOver(findNode(), command, args);
}

main(process.argv.slice(2)).catch((error) => {
  say(error instanceof BootstrapError ? error.message : String(error?.stack ?? error));
  process.exitCode = 1;
});
