import { type AgentEnvironment, loadAgentConfig } from '../config.ts';
import type { Terminal } from './terminal.ts';

/** Says what is wrong with a configuration: throws `invalid_config` with every fault, which exits with 2. */
export async function checkConfig(
  terminal: Terminal,
  file: string | undefined,
  environment: AgentEnvironment,
): Promise<number> {
  await loadAgentConfig(file, environment);
  terminal.write('the configuration is good\n');
  return 0;
}
