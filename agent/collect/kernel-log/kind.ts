import { closeSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '#shared/errors/fleet-error.ts';
import { GpuIdentities } from '../gpu-identity.ts';
import type { Detection, HostPaths, SourceKind, Surroundings } from '../source-kind.ts';
import { KernelLogCollector } from './collector.ts';
import { JournalSource } from './journal-source.ts';
import { KmsgSource, openKmsg } from './kmsg-source.ts';
import type { LogSource } from './log-source.ts';
import type { KernelLogSettings } from './settings.ts';
import { catalogueVerdicts, readVerdicts } from './verdicts.ts';

const GIVE = 'run the agent with CAP_SYSLOG, or in group adm or systemd-journal to read journald instead';

export const kind: SourceKind<KernelLogSettings> = {
  detect,
  create(settings, { host, facts, clock }) {
    const { interval, verdicts, accept_injected } = settings;
    const from = chosen(settings, host);
    const identities = new GpuIdentities(facts, clock);
    return [
      new KernelLogCollector({
        intervalMs: interval,
        from,
        open: (cursor): LogSource =>
          from === 'kmsg'
            ? new KmsgSource(kmsgOf(host), cursor)
            : new JournalSource(journalctlOf(host), cursor, clock),
        verdicts: verdicts === undefined ? catalogueVerdicts : readVerdicts(verdicts),
        acceptInjected: accept_injected,
        host,
        facts,
        clock,
        locate: (pci) => identities.byPci(pci),
        gpuOf: () => undefined,
      }),
    ];
  },
};

async function detect({ from }: KernelLogSettings, { host }: Surroundings): Promise<Detection> {
  const problem = from === 'journal' ? 'not asked for' : kmsgProblem(host);
  if (problem === undefined) return { found: true, what: kmsgOf(host) };
  const journal = from !== 'kmsg' && (await canRun(journalctlOf(host)));
  if (!journal) return { found: false, why: problem, hint: GIVE };
  const what = `journald, through ${journalctlOf(host)}`;
  return from === 'journal'
    ? { found: true, what }
    : { found: true, what: `${what} (${problem})`, hint: GIVE };
}

function chosen({ from }: KernelLogSettings, host: HostPaths): 'kmsg' | 'journal' {
  if (from !== 'auto') return from;
  return kmsgProblem(host) === undefined ? 'kmsg' : 'journal';
}

/** Opened and closed again: permission bits do not tell what a container or `dmesg_restrict` refuses. */
function kmsgProblem(host: HostPaths): string | undefined {
  try {
    closeSync(openKmsg(kmsgOf(host)));
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

async function canRun(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function kmsgOf({ dev }: HostPaths): string {
  return join(dev, 'kmsg');
}

function journalctlOf({ root }: HostPaths): string {
  return join(root, 'usr/bin/journalctl');
}
