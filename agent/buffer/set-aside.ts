import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from '#shared/logging/logger.ts';
import { damagedTables } from './table-file.ts';
import { TailFile, tailPath } from './tail-file.ts';

/**
 * Of the folder: keys, records and the file below together. 1: single records without their key in the checksum
 * (0.1.0); still read. 2: the key in it, segments, and more about each run.
 */
const FORMAT = 2;

/** Written beside the database: says whose it is, and that there is one, when LevelDB itself has forgotten. */
interface BufferFacts {
  readonly format: number;
  readonly machineId: string;
}

/** Databases kept aside for people to look at; the oldest beyond that are deleted. */
export const MAX_ASIDE = 3;
const PREFIX = 'buffer.aside-';
const ASIDE = /^buffer\.aside-\d+$/;
const byTime = (a: string, b: string): number =>
  Number(a.slice(PREFIX.length)) - Number(b.slice(PREFIX.length));

const factsPath = (directory: string): string => join(directory, 'buffer.json');

async function readFacts(directory: string): Promise<BufferFacts | undefined> {
  try {
    return JSON.parse(await readFile(factsPath(directory), 'utf8')) as BufferFacts;
  } catch {
    // No file, or cut off by a crash at the very first start: the database speaks for itself.
    return undefined;
  }
}

/** Says whose the database is. Replaced whole: a crash leaves the old one. */
export async function writeBufferFacts(directory: string, machineId: string): Promise<void> {
  const path = factsPath(directory);
  const facts: BufferFacts = { format: FORMAT, machineId };
  await writeFile(`${path}.new`, JSON.stringify(facts), { flush: true });
  await rename(`${path}.new`, path);
}

export interface AsideReason {
  readonly why: string;
  /** The records are this machine's: what of them cannot be read is its loss. */
  readonly ours: boolean;
  /** They are of a format that can be read. */
  readonly salvage: boolean;
}

/** Why the database in this folder must not be used by this agent as it is, or undefined. */
export async function asideReason(directory: string, machineId: string): Promise<AsideReason | undefined> {
  const facts = await readFacts(directory);
  const path = join(directory, 'buffer');
  if (facts && !(facts.format >= 1 && facts.format <= FORMAT)) {
    return {
      why: `it has format ${facts.format}, this agent reads up to ${FORMAT}`,
      ours: true,
      salvage: false,
    };
  }
  if (facts && facts.machineId !== machineId) {
    const why = `it belongs to another machine (${facts.machineId}): was this disk cloned?`;
    return { why, ours: false, salvage: false };
  }
  const files: string[] = await readdir(path).catch(() => []);
  if (facts && files.length === 0) return { why: 'the database is gone', ours: true, salvage: true };
  if (files.length > 0 && !(await hasManifest(path, files))) {
    // LevelDB would begin an empty database here and delete the tables of the old one.
    return { why: 'CURRENT or the MANIFEST that it names is missing', ours: true, salvage: true };
  }
  // What a killed or crashed process left is looked at closely: damage may be what killed it.
  const tail = await TailFile.read(tailPath(directory));
  const damaged = await damagedTables(path, tail?.clean ? 'ends' : 'all');
  if (damaged.length === 0) return undefined;
  return { why: `damaged tables: ${damaged.join(', ').slice(0, 200)}`, ours: true, salvage: true };
}

async function hasManifest(path: string, files: readonly string[]): Promise<boolean> {
  const current = await readFile(join(path, 'CURRENT'), 'latin1').catch(() => '');
  return /^MANIFEST-\d+\n$/.test(current) && files.includes(current.trimEnd());
}

/** Moves the database away, beside its place; undefined where there is nothing to move. */
export async function setAside(path: string, nowMs: number, logger: Logger): Promise<string | undefined> {
  const directory = dirname(path);
  const asides = async () => (await readdir(directory)).filter((name) => ASIDE.test(name)).sort(byTime);
  // Never onto another one, and always the newest by its name, whatever the clock says.
  const newest = Number((await asides()).at(-1)?.slice(PREFIX.length) ?? 0);
  const to = join(directory, `${PREFIX}${Math.max(nowMs, newest + 1)}`);
  try {
    await rename(path, to);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
  const kept = await asides();
  for (const name of kept.slice(0, -MAX_ASIDE)) {
    logger.warn({ folder: name }, `more than ${MAX_ASIDE} buffers were set aside: the oldest is deleted`);
    await rm(join(directory, name), { recursive: true, force: true });
  }
  return to;
}
