import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '#shared/errors/fleet-error.ts';
import { cachedPackage, fetchDebianPackages } from '../../deploy/local/debian-packages.ts';

/** Where the programs of Slurm are, by name; or why they are not to be had. */
export type FoundSlurm =
  | {
      readonly programs: Readonly<Record<string, string>>;
      readonly libraries: readonly string[];
      readonly plugins: string;
    }
  | { readonly programs: undefined; readonly reason: string };

/** Libraries that a plain Debian does not have are fetched along. */
const PACKAGES = [
  ...['slurmctld', 'slurmd', 'slurm-client', 'slurm-wlm-basic-plugins', 'munge'],
  ...['libmunge2', 'libhwloc15', 'libnuma1'],
];
/** Path in its package, by name. Debian's daemons have an ending that its alternatives take off. */
const PROGRAMS: Readonly<Record<string, readonly [name: string, path: string]>> = {
  slurmctld: ['slurmctld', 'usr/sbin/slurmctld-wlm'],
  slurmd: ['slurmd', 'usr/sbin/slurmd-wlm'],
  slurmstepd: ['slurmd', 'usr/sbin/slurmstepd-wlm'],
  munged: ['munge', 'usr/sbin/munged'],
  scontrol: ['slurm-client', 'usr/bin/scontrol'],
  sinfo: ['slurm-client', 'usr/bin/sinfo'],
  squeue: ['slurm-client', 'usr/bin/squeue'],
  sbatch: ['slurm-client', 'usr/bin/sbatch'],
  srun: ['slurm-client', 'usr/bin/srun'],
  scancel: ['slurm-client', 'usr/bin/scancel'],
};

/** Debian's Slurm, unpacked into the cache without installing it. Its daemons and mknod need root. */
export async function findSlurm(log: (line: string) => void): Promise<FoundSlurm> {
  if (process.getuid?.() !== 0) {
    return { programs: undefined, reason: 'slurmd and device files for it need root' };
  }
  try {
    await fetchDebianPackages(PACKAGES, log);
  } catch (error) {
    return { programs: undefined, reason: describeError(error) };
  }
  const programs: Record<string, string> = {};
  for (const [name, [from, path]] of Object.entries(PROGRAMS)) {
    const file = join(cachedPackage(from) ?? '/', path);
    if (!existsSync(file)) return { programs: undefined, reason: `the package ${from} has no ${path}` };
    programs[name] = file;
  }
  const triplet = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as string] ?? '';
  const libraryOf = (name: string): string => join(cachedPackage(name) ?? '/', 'usr', 'lib', triplet);
  const plugins = join(libraryOf('slurm-wlm-basic-plugins'), 'slurm-wlm');
  const libraries = [...['libmunge2', 'libhwloc15', 'libnuma1'].map(libraryOf), plugins];
  return { programs, libraries, plugins };
}
