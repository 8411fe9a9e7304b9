import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import { detectSources } from '../collect/registry.ts';
import type { HostPaths } from '../collect/source-kind.ts';
import type { AgentConfig } from '../config.ts';
import { troublesOf } from '../control/agent-status.ts';
import { AgentNotRunning, askAgent } from '../control/control-client.ts';
import { type Finding, fail, none, ok, warn } from './finding.ts';
import { examineClock, examineDisk, examineDriver, examinePermissions } from './host-examination.ts';
import { examineCertificates, examineNetwork } from './network-examination.ts';
import { passingSurroundings } from './surroundings.ts';
import { renderTable } from './table.ts';
import { plain, type Terminal } from './terminal.ts';

export interface DoctorOptions {
  /** Throws `invalid_config`. */
  readonly config: () => Promise<AgentConfig>;
  /** Of the configuration, for people. */
  readonly configFile: string;
  readonly socket: string;
  readonly host: HostPaths;
  readonly timeoutMs: number;
  readonly json: boolean;
  readonly logger: Logger;
}

/** Looks at everything that the agent needs, and says what to do. Returns 1 where something failed. */
export async function doctor(terminal: Terminal, options: DoctorOptions): Promise<number> {
  const findings = await examine(terminal, options);
  const failed = findings.filter(({ state }) => state === 'fail').length;
  const warned = findings.filter(({ state }) => state === 'warn').length;
  if (options.json) terminal.write(`${JSON.stringify({ ok: failed === 0, findings })}\n`);
  else {
    const rows = findings.flatMap(rowsOf);
    terminal.write(renderTable(['CHECK', 'STATE', 'FINDING'], rows, terminal.columns));
    terminal.write(`\n${failed} failed, ${warned} to look at\n`);
  }
  return failed > 0 ? 1 : 0;
}

function rowsOf({ what, state, finding, cure }: Finding): string[][] {
  const row = [plain(what), state === 'fail' ? 'FAIL' : state, plain(finding)];
  return cure === undefined ? [row] : [row, ['', '', `-> ${plain(cure)}`]];
}

async function examine(terminal: Terminal, options: DoctorOptions): Promise<Finding[]> {
  const { host, timeoutMs } = options;
  const local = [await examineDriver(host), ...(await examinePermissions(host))];
  let config: AgentConfig;
  try {
    config = await options.config();
  } catch (error) {
    const faults = describeError(error)
      .split('\n')
      .map((line) => line.trim());
    return [
      ...faults.map((fault) =>
        fail('config', fault, `correct ${options.configFile}; README.md has every setting`),
      ),
      ...local.flat(),
      none('the rest', 'sources, disk, network and certificates depend on the configuration'),
    ];
  }
  const [running, sources, disk, network, certificates] = await Promise.all([
    examineAgent(options),
    examineSources(terminal, config, options),
    examineDisk(config.data_dir, terminal.clock),
    examineNetwork(config, timeoutMs),
    examineCertificates(config, terminal.clock.now()),
  ]);
  const clock = await examineClock(host);
  return [
    ok('config', `${options.configFile} is good`),
    running,
    ...local.flat(),
    ...sources,
    ...disk,
    clock,
    ...network,
    ...certificates,
  ];
}

async function examineAgent({ socket, timeoutMs }: DoctorOptions): Promise<Finding> {
  try {
    const status = await askAgent(socket, { command: 'status' }, timeoutMs);
    const troubles = troublesOf(status);
    return troubles.length === 0
      ? ok('agent', `version ${status.version} is running, all is well`)
      : warn('agent', `version ${status.version} is running; ${troubles[0]}`, 'see `gpufleet-agent status`');
  } catch (error) {
    if (error instanceof AgentNotRunning)
      return none('agent', describeError(error), 'start it: systemctl start gpufleet-agent');
    return warn('agent', describeError(error), 'run doctor as the agent does, or as root');
  }
}

async function examineSources(
  terminal: Terminal,
  config: AgentConfig,
  { host, logger }: DoctorOptions,
): Promise<Finding[]> {
  await using surroundings = await passingSurroundings(config, host, terminal.clock, logger);
  const found = await detectSources(config.collectors, surroundings);
  const findings = found.map(({ key, configured, detection }): Finding => {
    const what = `source ${key}`;
    if (detection.found)
      return detection.hint === undefined
        ? ok(what, detection.what)
        : warn(what, detection.what, detection.hint);
    if (configured)
      return fail(
        what,
        detection.why,
        detection.hint ?? `take ${key} out of collectors, or make it available`,
      );
    return none(what, detection.why, detection.hint);
  });
  if (found.some(({ detection }) => detection.found)) return findings;
  return [
    ...findings,
    fail(
      'sources',
      'nothing that this node has can be read',
      'name a source in collectors, or install a GPU driver',
    ),
  ];
}
