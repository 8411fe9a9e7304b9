import { appendFileSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Reading } from '../../../../agent/collect/collector.ts';
import { KernelLogCollector, type KernelLogOptions } from '../../../../agent/collect/kernel-log/collector.ts';
import { KmsgSource } from '../../../../agent/collect/kernel-log/kmsg-source.ts';
import { catalogueVerdicts } from '../../../../agent/collect/kernel-log/verdicts.ts';
import type { HostPaths } from '../../../../agent/collect/source-kind.ts';
import { labelOf } from '../../../../shared/model/dictionary.ts';
import { tempDir } from '../../../support/temp.ts';

export const BOOT = '0123456789abcdef0123456789abcdef';
export const NEXT_BOOT = 'fedcba9876543210fedcba9876543210';
export const START_MS = Date.UTC(2026, 3, 1);
/** Uptime when the node begins. */
export const UP_MS = 1_000_000;

/**
 * A node with a kernel log of its own in a temp folder, and a clock that the test moves. Its dev/kmsg is a plain file:
 * unlike the device it gives several records a read, an end instead of EAGAIN, and never overwrites.
 */
export class KernelNode implements AsyncDisposable {
  readonly #dir = tempDir('kernel-log');
  readonly host: HostPaths;
  readonly facts = new Map<string, string>();
  now = START_MS;
  /** Since boot, at the last boot() or at START_MS. */
  uptimeMs = UP_MS;
  #monotonic = 5_000;
  #sequence = 0;
  readonly clock = { now: () => this.now, monotonic: () => this.#monotonic };

  constructor() {
    const at = (name: string): string => join(this.#dir.path, name);
    this.host = { proc: at('proc'), sys: at('sys'), dev: at('dev'), run: at('run'), root: at('root') };
    mkdirSync(this.host.dev);
    this.boot(BOOT, UP_MS);
  }

  boot(id: string, uptimeMs: number): void {
    this.write(join(this.host.proc, 'sys/kernel/random/boot_id'), `${id}\n`);
    this.uptimeMs = uptimeMs;
    this.#sequence = 0;
    writeFileSync(join(this.host.dev, 'kmsg'), '');
    this.pass(0);
  }

  /** Time goes on. */
  pass(ms: number): void {
    this.now += ms;
    this.#monotonic += ms;
    this.uptimeMs += ms;
    this.write(join(this.host.proc, 'uptime'), `${(this.uptimeMs / 1000).toFixed(2)} 1.00\n`);
  }

  /** The kernel says something, now. `skip`: so many records before it were overwritten. */
  log(text: string, { facility = 0, skip = 0 } = {}): void {
    this.#sequence += skip;
    const usec = Math.round(this.uptimeMs * 1000);
    const line = `${facility * 8 + 4},${this.#sequence++},${usec},-;${text}\n SUBSYSTEM=pci\n`;
    appendFileSync(join(this.host.dev, 'kmsg'), line);
  }

  write(path: string, content: string, mtimeMs?: number): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    if (mtimeMs !== undefined) utimesSync(path, mtimeMs / 1000, mtimeMs / 1000);
  }

  collector(options: Partial<KernelLogOptions> = {}): KernelLogCollector {
    return new KernelLogCollector({
      intervalMs: 250,
      from: 'kmsg',
      open: (cursor) => new KmsgSource(join(this.host.dev, 'kmsg'), cursor),
      verdicts: catalogueVerdicts,
      acceptInjected: false,
      host: this.host,
      facts: { get: (name) => this.facts.get(name), set: (name, value) => this.facts.set(name, value) },
      clock: this.clock,
      locate: (pci) => (pci === '0000:91:00.0' ? { gpu: '3', uuid: 'GPU-3', model: 'H100' } : undefined),
      gpuOf: () => undefined,
      ...options,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dir[Symbol.asyncDispose]();
  }
}

export const XID_79 = 'NVRM: Xid (PCI:0000:91:00): 79, pid=1, name=x, GPU has fallen off the bus.';
export const XID_45 = 'NVRM: Xid (PCI:0000:91:00): 45, pid=1, name=x, Ch 00000008';

export const forever = new AbortController().signal;

/** The value of a series, by name and one label. */
export function readingOf(
  { dictionary, values }: Reading,
  name: string,
  label = '',
  value = '',
): number | undefined {
  const slot = dictionary.series.findIndex(
    (series) => series.name === name && (label === '' || labelOf(series.labels, label) === value),
  );
  return slot < 0 ? undefined : values[slot];
}
