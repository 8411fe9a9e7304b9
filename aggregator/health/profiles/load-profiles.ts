import { readdirSync, readFileSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, configError, type Fault, parseYaml } from '#shared/config/load-config.ts';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { buildProfile } from './build-profile.ts';
import { type Profile, ProfileSet } from './profile.ts';
import { type ProfileFile, profileFile } from './profile-file.ts';

/** Profiles in all, the built-in ones included: each GPU that is new is matched against every one of them. */
export const MAX_PROFILES = 200;
/** Bytes of one file: the largest built-in one has 8 kB. */
export const MAX_PROFILE_BYTES = 256 * 1024;

const BUILT_IN = fileURLToPath(new URL('.', import.meta.url));

interface LoadedFile {
  readonly path: string;
  readonly file: ProfileFile;
}

let builtIn: ProfileSet | undefined;
let builtInFiles: readonly LoadedFile[] | undefined;

/** The profiles that come with the product: read once, at the first call. */
export function builtInProfiles(): ProfileSet {
  builtIn ??= setOf([], readBuiltIn());
  return builtIn;
}

/**
 * The built-in profiles and those of a directory (`*.yaml`, `*.yml`), which are asked first, in the order of their
 * file names; one with the name of a built-in profile stands in its place, and may extend it. Throws
 * `invalid_config` with every fault of every file.
 */
export async function loadProfiles(directory?: string): Promise<ProfileSet> {
  if (directory === undefined) return builtInProfiles();
  const paths = await filesOf(directory);
  const own: LoadedFile[] = [];
  const faults: Fault[] = [];
  for (const path of paths) {
    const { file, faults: found = [] } = parseProfile(await readText(path), path);
    if (file !== undefined) own.push({ path, file });
    faults.push(...at(path, found));
  }
  if (faults.length > 0) throw configError(directory, faults);
  return setOf(own, readBuiltIn(), directory);
}

function readBuiltIn(): readonly LoadedFile[] {
  builtInFiles ??= readdirSync(BUILT_IN)
    .filter(isYaml)
    .sort()
    .map((name) => {
      const path = join(BUILT_IN, name);
      const { file, faults } = parseProfile(readFileSync(path, 'utf8'), path);
      if (file === undefined) throw configError(path, faults);
      return { path, file };
    });
  return builtInFiles;
}

async function filesOf(directory: string): Promise<string[]> {
  let names: string[];
  try {
    names = (await readdir(directory)).filter(isYaml).sort();
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read the profiles in ${directory}`, { cause: error });
  }
  if (names.length + readBuiltIn().length > MAX_PROFILES) {
    throw configError(directory, [
      {
        path: '(directory)',
        message: `has ${names.length} profiles; with the built-in ones ${MAX_PROFILES} are allowed`,
      },
    ]);
  }
  return names.map((name) => join(directory, name));
}

/** Sized before it is read: a file that is no profile must not fill the memory. */
async function readText(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size <= MAX_PROFILE_BYTES) return await readFile(path, 'utf8');
  } catch (error) {
    throw new FleetError('invalid_config', `Cannot read ${path}`, { cause: error });
  }
  throw configError(path, [{ path: '(file)', message: `is larger than ${MAX_PROFILE_BYTES} bytes` }]);
}

function parseProfile(
  text: string,
  path: string,
):
  | { readonly file: ProfileFile; readonly faults?: never }
  | { readonly faults: readonly Fault[]; readonly file?: never } {
  try {
    const { output, faults } = check(profileFile, parseYaml(text, path));
    return output === undefined ? { faults } : { file: output };
  } catch (error) {
    return { faults: [{ path: 'yaml', message: describeError(error) }] };
  }
}

/** Own ones first, then the built-in ones, `generic` last. Of those that match, one that asks for a memory size first. */
function setOf(
  own: readonly LoadedFile[],
  shipped: readonly LoadedFile[],
  source = 'the built-in profiles',
): ProfileSet {
  const faults: Fault[] = [];
  const byName = new Map(shipped.map(({ file }) => [file.name, file]));
  const seen = new Map<string, string>();
  for (const { path, file } of own) {
    const before = seen.get(file.name);
    if (before !== undefined)
      faults.push(...at(path, [{ path: 'name', message: `${file.name} is also in ${before}` }]));
    seen.set(file.name, path);
    byName.set(file.name, replaced(file, byName));
  }
  const all = [...own, ...shipped.filter(({ file }) => !seen.has(file.name))];
  const profiles: { built: Profile; sized: boolean }[] = [];
  for (const { path, file } of all) {
    const whole = byName.get(file.name)!;
    const built = buildProfile(whole, byName);
    if (built.faults) faults.push(...at(path, built.faults));
    else profiles.push({ built: built.profile, sized: whole.match?.memory_gib !== undefined });
  }
  if (faults.length > 0) throw configError(source, faults);
  const rank = ({ built, sized }: (typeof profiles)[number]): number =>
    built.name === 'generic' ? 2 : sized ? 0 : 1;
  profiles.sort((a, b) => rank(a) - rank(b));
  return new ProfileSet(profiles.map(({ built }) => built));
}

/** A profile with a built-in one's name that extends itself, or is `generic`: laid over the built-in one. */
function replaced(file: ProfileFile, byName: ReadonlyMap<string, ProfileFile>): ProfileFile {
  const shipped = byName.get(file.name);
  if (shipped === undefined || (file.name !== 'generic' && file.extends !== file.name)) return file;
  return laidOver(shipped, file);
}

function laidOver(base: ProfileFile, file: ProfileFile): ProfileFile {
  const signals: Record<string, unknown> = { ...base.signals };
  for (const [name, own] of Object.entries(file.signals ?? {}))
    signals[name] = { ...(signals[name] as object | undefined), ...own };
  const { extends: _, ...rest } = file;
  return {
    ...base,
    ...rest,
    limits: { ...base.limits, ...file.limits },
    signals: signals as ProfileFile['signals'],
    events: {
      ...base.events,
      ...file.events,
      severities: { ...base.events?.severities, ...file.events?.severities },
      xids: [...(base.events?.xids ?? []), ...(file.events?.xids ?? [])],
      xid_caps: [...(base.events?.xid_caps ?? []), ...(file.events?.xid_caps ?? [])],
    },
  };
}

function at(path: string, faults: readonly Fault[]): Fault[] {
  return faults.map((fault) => ({ path: `${path}: ${fault.path}`, message: fault.message }));
}

function isYaml(name: string): boolean {
  return name.endsWith('.yaml') || name.endsWith('.yml');
}
