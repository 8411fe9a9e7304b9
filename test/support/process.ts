import { join } from 'node:path';
import { Child } from '../../deploy/local/child.ts';
import { ROOT } from './data.ts';

export { Child } from '../../deploy/local/child.ts';

export interface ProgramOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

/**
 * Starts one of our programs (`agent/main.ts`, path from the repository's root) on the Node that runs the tests.
 * `await using` it: it is stopped (SIGTERM, then SIGKILL) at the end. `kill9()`, `stop(ms)`, `exited`, `output`.
 */
export function startProgram(script: string, options: ProgramOptions = {}): Promise<Child> {
  return Child.start({
    name: script,
    command: process.execPath,
    args: [join(ROOT, script), ...(options.args ?? [])],
    // vitest's own settings must not leak into our programs.
    env: { NODE_ENV: undefined, VITEST: undefined, NODE_OPTIONS: undefined, ...options.env },
    cwd: options.cwd ?? ROOT,
  });
}
