import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

const BUF = resolve(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'buf');
const LIMIT_MS = 60_000;

/**
 * What a contract breaks of each version that was released, a line each, with that version in front: a field that
 * went, a number or a type that changed. `proto` is a folder like proto/, with an image of each version in released/.
 * Throws where buf does not run or there is no image to compare with: a check that checks nothing must not pass.
 */
export function releasedContractFaults(proto: string): string[] {
  const images = readdirSync(join(proto, 'released')).filter((name) => name.endsWith('.binpb'));
  if (images.length === 0) throw new Error(`Cannot check ${proto}: released/ has no image`);
  return images.sort().flatMap((image) => {
    const result = spawnSync(BUF, ['breaking', '--against', join('released', image)], {
      cwd: proto,
      encoding: 'utf8',
      timeout: LIMIT_MS,
    });
    if (result.error) throw result.error;
    if (result.status === 0) return [];
    // Findings are on stdout; what keeps buf from finding anything, on stderr.
    const lines = `${result.stdout}${result.stderr}`.split('\n').filter((line) => line !== '');
    return lines.map((line) => `${image.replace('.binpb', '')}: ${line}`);
  });
}
