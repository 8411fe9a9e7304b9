import { readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Loss } from '#shared/model/loss.ts';

/** Of the folder: keys, records and this file together. */
const FORMAT = 1;

/** Written beside the database: says whose it is when LevelDB itself has forgotten. */
interface BufferFacts {
  readonly format: number;
  readonly machineId: string;
}

const factsPath = (directory: string): string => join(directory, 'buffer.json');

export async function writeBufferFacts(directory: string, machineId: string): Promise<void> {
  await writeFile(factsPath(directory), JSON.stringify({ format: FORMAT, machineId } satisfies BufferFacts));
}

/** Why the database in this folder must not be used by this agent, or undefined. */
export async function setAsideReason(directory: string, machineId: string): Promise<string | undefined> {
  let facts: BufferFacts;
  try {
    facts = JSON.parse(await readFile(factsPath(directory), 'utf8')) as BufferFacts;
  } catch {
    // No file, or cut off by a crash at the very first start: the database speaks for itself.
    return undefined;
  }
  if (facts.format !== FORMAT) return `it has format ${facts.format}, this agent reads ${FORMAT}`;
  if (facts.machineId !== machineId)
    return `it belongs to another machine (${facts.machineId}): was this disk cloned?`;
  return undefined;
}

/** Moves the database away, beside its place, and says so as a loss of unknown size. */
export async function setAside(path: string, why: string, nowMs: number): Promise<Loss> {
  const to = join(dirname(path), `buffer.aside-${nowMs}`);
  await rename(path, to);
  const detail = `Buffer set aside as ${to}: ${why}`.slice(0, 1000);
  return { fromMs: 0, toMs: nowMs, samples: 0, reason: 'corrupt', estimated: true, detail };
}
