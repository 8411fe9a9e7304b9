import type { Collector } from '../../../../agent/collect/collector.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { type FakeHost, patient, shown } from './fake-host.ts';

/**
 * Damages one file of a host in every way of damagedInputs, reads it each time, and gives what was read that was
 * not there: a value of a series that another part of the file, one that was not touched, should have given.
 * Which part of the file gives which series is found out by changing one digit after the other.
 */
export async function inventions(
  host: FakeHost,
  collector: Collector,
  path: string,
  content: Buffer,
): Promise<string[]> {
  const read = async (bytes: Buffer): Promise<Record<string, number | string>> => {
    host.write(path, bytes);
    return shown(await collector.collect(patient));
  };
  const whole = await read(content);
  const places = new Map<string, number[]>();
  for (let at = 0; at < content.length; at++) {
    const byte = content[at]!;
    if (byte < 0x30 || byte > 0x39) continue;
    const changed = Buffer.from(content);
    changed[at] = byte === 0x31 ? 0x32 : 0x31;
    const values = await read(changed);
    for (const [series, value] of Object.entries(whole))
      if (values[series] !== value) places.set(series, [...(places.get(series) ?? []), at]);
  }
  const found: string[] = [];
  for (const { what, bytes } of damagedInputs(content, 7)) {
    const [from, to] = touched(content, bytes);
    for (const [series, value] of Object.entries(await read(bytes))) {
      // Free space of the test's own disk moves by itself.
      if (/^node_filesystem_(free|avail|files)/.test(series)) continue;
      if (typeof value === 'string' || value === whole[series] || !(series in whole)) continue;
      // One byte on either side: two words that were joined are another word.
      if (!places.get(series)?.some((at) => at >= from - 1 && at <= to))
        found.push(`${path}, ${what}: ${series} is ${value}`);
    }
  }
  await read(content);
  return found;
}

/** The bytes of the whole that are not in the damaged one. */
function touched(whole: Buffer, damaged: Buffer): [from: number, to: number] {
  const shortest = Math.min(whole.length, damaged.length);
  let from = 0;
  while (from < shortest && whole[from] === damaged[from]) from++;
  let same = 0;
  while (same < shortest - from && whole.at(-1 - same) === damaged.at(-1 - same)) same++;
  return [from, whole.length - same];
}
