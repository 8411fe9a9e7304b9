import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { skipLoudly } from '../data.ts';
import { type TempDir, tempDir } from '../temp.ts';

/** A fake libnvidia-ml.so.1 in a folder of its own: see fake-nvml.c for what its control file may say. */
export interface FakeNvml extends AsyncDisposable {
  /** Absolute path of the library. */
  readonly library: string;
  /** Says what it does from now on; replaces all that was said before. */
  control(settings: Readonly<Record<string, string | number>>): void;
  /** Lines `init`, `shutdown` and `term`, in order. */
  log(): string[];
}

let built: { readonly folder: TempDir; readonly library: string } | undefined;

/** Whether there is a C compiler; said loudly where there is none. */
export function canBuildFakeNvml(): boolean {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    skipLoudly('no C compiler (cc): the NVML collector is not tested over the fake library');
    return false;
  }
}

/** Compiled once a test process; each test has a copy. */
export function fakeNvml(settings: Readonly<Record<string, string | number>> = {}): FakeNvml {
  built ??= build();
  const folder = tempDir('fake-nvml');
  const library = join(folder.path, 'libnvidia-ml.so.1');
  copyFileSync(built.library, library);
  const control: FakeNvml['control'] = (said) => {
    const lines = Object.entries(said).map(([name, value]) => `${name}=${value}\n`);
    // Renamed, so that no read sees half of it.
    writeFileSync(join(folder.path, 'next'), lines.join(''));
    renameSync(join(folder.path, 'next'), join(folder.path, 'control'));
  };
  control(settings);
  return {
    library,
    control,
    log: () => {
      const path = join(folder.path, 'log');
      return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n').filter(Boolean) : [];
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

function build(): NonNullable<typeof built> {
  const folder = tempDir('fake-nvml-build');
  const library = join(folder.path, 'libnvidia-ml.so.1');
  const source = join(import.meta.dirname, 'fake-nvml.c');
  execFileSync('cc', [
    '-Wall',
    '-Wextra',
    '-Werror',
    '-O2',
    '-shared',
    '-fPIC',
    '-o',
    library,
    source,
    '-ldl',
  ]);
  process.once('exit', () => void folder[Symbol.asyncDispose]());
  return { folder, library };
}
