import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { readYaml } from '#shared/config/load-config.ts';

/** Where the buffer is, and the control socket beside it, where nobody says otherwise. */
export const DEFAULT_DATA_DIR = '/var/lib/gpufleet-agent';
/** Where packages put the configuration: commands that talk to a running agent look here where none is named. */
const INSTALLED_CONFIG = '/etc/gpufleet/agent.yaml';

/** The control socket of the agent whose buffer is in `directory`. */
export function socketIn(directory: string): string {
  return join(directory, 'control.sock');
}

/**
 * The socket of the agent that a configuration file describes; `node` names one of several simulated nodes. Only
 * `data_dir` is looked at: a file that is wrong elsewhere, or that this user may not read, must not keep anybody
 * from asking an agent that runs.
 */
export async function socketOf(configFile: string | undefined, node: string | undefined): Promise<string> {
  const file = configFile ?? (await installedConfig());
  const raw = file === undefined ? {} : await readYaml(file).catch(() => ({}));
  const dataDir = (raw as { data_dir?: unknown }).data_dir;
  const directory = typeof dataDir === 'string' && dataDir !== '' ? dataDir : DEFAULT_DATA_DIR;
  return socketIn(node === undefined ? directory : join(directory, node));
}

/** /etc/gpufleet/agent.yaml, where it is there. */
export async function installedConfig(): Promise<string | undefined> {
  return await access(INSTALLED_CONFIG).then(
    () => INSTALLED_CONFIG,
    () => undefined,
  );
}
