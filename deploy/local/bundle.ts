// `npm run bundle [-- folder]`: the agent as a package installs it, in dist/agent where no folder is named. One folder of plain JavaScript that needs Node
// 24 and three native packages beside it (classic-level, koffi, snappy): about 50 MiB less memory and half the
// start-up time of running the TypeScript as it is.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { rolldown } from 'rolldown';
import packageJson from '../../package.json' with { type: 'json' };

const ROOT = resolve(import.meta.dirname, '..', '..');
const OUT = resolve(process.argv[2] ?? join(ROOT, 'dist', 'agent'));
/** What brings a binary: stays a package. */
const NATIVE = ['classic-level', 'koffi', 'snappy'];
/** What is started or loaded by name: `#entry/...` in package.json, and the program itself. */
const ENTRIES = {
  main: 'agent/main.ts',
  probe: packageJson.imports['#entry/probe'],
  nvml: packageJson.imports['#entry/nvml'],
};

await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });
const build = await rolldown({
  cwd: ROOT,
  input: ENTRIES,
  platform: 'node',
  external: NATIVE,
  logLevel: 'warn',
});
const { output } = await build.write({ dir: OUT, format: 'esm', minify: true, sourcemap: true });
await build.close();
const { name, version, license, dependencies } = packageJson;
await writeFile(
  join(OUT, 'package.json'),
  `${JSON.stringify(
    {
      name: `${name}-agent`,
      version,
      license,
      type: 'module',
      bin: { 'gpufleet-agent': './main.js' },
      imports: { '#entry/probe': './probe.js', '#entry/nvml': './nvml.js' },
      dependencies: Object.fromEntries(Object.entries(dependencies).filter(([one]) => NATIVE.includes(one))),
    },
    undefined,
    2,
  )}\n`,
);
console.log(`${OUT}: ${output.length} files; run it with node ${join(OUT, 'main.js')}`);
