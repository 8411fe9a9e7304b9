import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { OpenLibrary } from '../../../../agent/collect/probe/probed-library.ts';

/** A library that does what files in `folder` say: `hang` blocks until it is gone, `throw` ends the child. */
export const open: OpenLibrary = (options) => {
  const { folder } = options as { folder: string };
  let reads = 0;
  return {
    read(group) {
      if (existsSync(join(folder, 'throw'))) {
        rmSync(join(folder, 'throw'));
        throw new Error('the library is broken');
      }
      while (existsSync(join(folder, 'hang')))
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      if (group === 9) return { failure: 'no group 9', state: 7 };
      reads++;
      // What libraries print must not get between the frames.
      console.log('noise');
      const values = Float64Array.of(reads, Number.POSITIVE_INFINITY, 0.1, group);
      const states = Uint8Array.of(0, 0, 0, 6);
      return reads === 1 ? { description: { pid: process.pid }, values, states } : { values, states };
    },
  };
};
