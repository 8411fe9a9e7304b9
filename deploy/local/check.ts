// `npm run check`: everything about the source that a machine can judge without running it. Runs all checks, even
// when one fails, and ends with a summary; exit status 1 if any failed.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { releasedContractFaults } from './released-contract.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');
const BIN = join(ROOT, 'node_modules', '.bin');
const LIMIT_MS = 10 * 60_000;

interface Check {
  readonly name: string;
  /** What to do about a failure. */
  readonly cure: string;
  readonly run: () => boolean;
}

const CHECKS: readonly Check[] = [
  { name: 'format and lint', cure: 'npm run format', run: () => command('biome', ['check', '.']) },
  { name: 'contract lint', cure: 'see proto/buf.yaml', run: () => command('buf', ['lint'], 'proto') },
  { name: 'released contract', cure: 'see proto/README.md', run: releasedContractHolds },
  { name: 'generated code', cure: 'npm run generate, and commit proto/gen', run: generatedIsCurrent },
  { name: 'types', cure: 'tsc --noEmit', run: () => command('tsc', ['--noEmit']) },
  { name: 'dead code', cure: 'knip', run: () => command('knip', []) },
];

/** Runs a tool of node_modules with its output shown; whether it ended with 0. */
function command(tool: string, args: readonly string[], folder = '.'): boolean {
  const result = spawnSync(join(BIN, tool), args, {
    cwd: join(ROOT, folder),
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: LIMIT_MS,
  });
  if (result.error !== undefined) console.error(`Cannot run ${tool}: ${result.error.message}`);
  return result.status === 0;
}

function releasedContractHolds(): boolean {
  const faults = releasedContractFaults(join(ROOT, 'proto'));
  for (const fault of faults) console.error(fault);
  return faults.length === 0;
}

/** Generates into a temporary folder and compares with what is committed, so that a check changes nothing. */
function generatedIsCurrent(): boolean {
  const fresh = mkdtempSync(join(tmpdir(), 'gpufleet-generated-'));
  try {
    // The output folder of buf.gen.yaml is `gen`, below what --output names.
    if (!command('buf', ['generate', '--output', fresh], 'proto')) return false;
    const differences = compareTrees(join(fresh, 'gen'), join(ROOT, 'proto', 'gen'));
    for (const difference of differences) console.error(`proto/gen/${difference}`);
    return differences.length === 0;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

function compareTrees(expected: string, actual: string): string[] {
  const files = (folder: string): Set<string> =>
    new Set(
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)),
    );
  const wanted = files(expected);
  const found = files(actual);
  const differences: string[] = [];
  for (const file of wanted.union(found)) {
    if (!found.has(file)) differences.push(`${file} is missing`);
    else if (!wanted.has(file)) differences.push(`${file} is no longer generated`);
    else if (!readFileSync(join(expected, file)).equals(readFileSync(join(actual, file)))) {
      differences.push(`${file} differs from what the contract generates`);
    }
  }
  return differences.sort();
}

const results = CHECKS.map((check) => {
  console.log(`\n== ${check.name}`);
  const started = performance.now();
  const ok = check.run();
  return { check, ok, seconds: (performance.now() - started) / 1000 };
});

console.log('\n== summary');
for (const { check, ok, seconds } of results) {
  const verdict = ok ? 'ok    ' : 'FAILED';
  console.log(`${verdict} ${check.name} (${seconds.toFixed(1)} s)${ok ? '' : `  -> ${check.cure}`}`);
}
process.exitCode = results.every(({ ok }) => ok) ? 0 : 1;
