import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Where ROCm's packages put their tools: /opt/rocm, and distributions' own. */
const FOLDERS = ['opt/rocm/bin', 'usr/bin', 'usr/local/bin'];

/** The tool's absolute path, or undefined where the host does not have it. Three looks, when a source is made. */
export function findTool(root: string, name: string): string | undefined {
  return FOLDERS.map((folder) => join(root, folder, name)).find(runs);
}

function runs(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
