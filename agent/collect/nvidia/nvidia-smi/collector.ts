import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import type { Collector, Reading } from '../../collector.ts';
import { Deadline } from '../../deadline.ts';
import { type GpuIdentities, normalPci } from '../../gpu-identity.ts';
import { ReadingTable } from '../../reading-table.ts';
import { GpuPresence, type ListedGpu } from '../gpu-presence.ts';
import { SmiGpus } from './smi-gpus.ts';
import { isGpuUuid, type SmiGpu, type SmiReport } from './smi-report.ts';
import type { SmiSession } from './smi-session.ts';
import { refusalOf } from './smi-value.ts';

/** One of nvidia-smi's reports: how it is asked for and read. */
export interface SmiQuery {
  read(session: SmiSession, signal: AbortSignal): Promise<SmiReport>;
  /** `query-gpu`, `-q -x`: for people. */
  readonly what: string;
}

export interface NvidiaSmiOptions {
  readonly name: string;
  readonly rank: number;
  readonly intervalMs: number;
  /** A run is given up after this, and at the collect's own deadline if that is sooner. */
  readonly timeoutMs: number;
  readonly session: SmiSession;
  readonly query: SmiQuery;
  /** Whether it raises gpu_lost and gpu_back: of several collectors over one nvidia-smi only one. */
  readonly raisesLost: boolean;
  /** Which GPU is in which slot; kept up by the collector that raises gpu_lost. */
  readonly identities: GpuIdentities;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Reads GPUs from a report of nvidia-smi: canonical series, and events for GPUs that are lost and back. A GPU is lost
 * when its values say so, when nvidia-smi cannot open it, or when a whole report does not list it; its series stay,
 * in state GpuLost. A run that fails gives a reading with `up` 0.
 */
export class NvidiaSmiCollector implements Collector {
  readonly name: string;
  readonly rank: number;
  readonly intervalMs: number;
  readonly holdsDevice = true;
  readonly #options: NvidiaSmiOptions;
  readonly #table: ReadingTable;
  readonly #gpus = new SmiGpus();
  readonly #presence: GpuPresence;
  #lastProblem = '';

  constructor(options: NvidiaSmiOptions) {
    const { name, rank, intervalMs, clock, session } = options;
    this.name = name;
    this.rank = rank;
    this.intervalMs = intervalMs;
    this.#options = options;
    this.#table = new ReadingTable({ source: name, intervalMs, clock });
    this.#presence = new GpuPresence({ source: 'nvidia-smi', patience: 1 });
    session.enter();
  }

  describe(): string {
    const drivers = new Set(this.#gpus.all.map(({ facts }) => facts.driver_version));
    const driver = [...drivers].filter((version) => version !== '').join(', ');
    return `nvidia-smi ${this.#options.query.what}${driver && `, driver ${driver}`}, ${this.#gpus.size} GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const { session, query, timeoutMs, logger } = this.#options;
    using limit = new Deadline(timeoutMs, signal);
    const deadline = limit.signal;
    this.#table.begin();
    try {
      const report = await query.read(session, deadline);
      this.#lastProblem = '';
      return this.#read(report);
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#lastProblem) logger.warn({ source: this.name }, problem);
      this.#lastProblem = problem;
      const state = deadline.aborted ? SlotState.Timeout : SlotState.Absent;
      return this.#table.failed(state, session.takeEvents(), problem);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.session.leave();
  }

  #read(report: SmiReport): Reading {
    this.#table.reject('malformed', report.malformed);
    this.#gpus.update(report, this.#table);
    const events = [...this.#options.session.takeEvents(), ...this.#observe(report)];
    this.#gpus.fill(this.#table, (uuid) => this.#presence.isLost(uuid));
    return this.#table.finish(events);
  }

  #observe(report: SmiReport): FleetEvent[] {
    const { clock, identities, raisesLost } = this.#options;
    const saidLost = this.#saidLost(report);
    // A damaged report may lack a GPU that is there: nobody is missed for it.
    const excused =
      report.malformed > 0 ? this.#gpus.all.filter(({ uuid }) => !this.#presence.isLost(uuid)) : [];
    const unlisted = [...saidLost.keys()].map((key) => this.#unlisted(key));
    const listed = [...unlisted, ...[...report.gpus, ...excused].map(listedAs)];
    const events = this.#presence.observe(listed, clock.now(), saidLost);
    if (!raisesLost) return [];
    for (const { uuid, index, model, facts } of report.gpus)
      if (!this.#presence.isLost(uuid))
        identities.note({ uuid, gpu: index, model, serial: facts.serial, pci: facts.pci_bus_id });
    for (const { type, gpuUuid } of events) if (type === 'gpu_lost') identities.noteLost(gpuUuid);
    return events;
  }

  /** Nvidia-smi's words by UUID; by PCI address for a GPU that nobody knows. */
  #saidLost({ gpus, unreachable }: SmiReport): Map<string, string> {
    const lost = new Map<string, string>();
    for (const gpu of gpus) {
      const words = gpu.texts.find((text) => text !== undefined && refusalOf(text) === SlotState.GpuLost);
      if (words !== undefined) lost.set(gpu.uuid, words);
    }
    for (const { pciBusId, why } of unreachable) {
      const pci = normalPci(pciBusId) ?? pciBusId;
      const gpu = this.#gpus.all.find(({ facts }) => normalPci(facts.pci_bus_id) === pci);
      lost.set(gpu?.uuid ?? this.#options.identities.byPci(pci)?.uuid ?? pci, why);
    }
    return lost;
  }

  /** A GPU that nvidia-smi speaks of and may not list: as it was last seen, if it ever was. */
  #unlisted(key: string): ListedGpu {
    const known = this.#options.identities.byUuid(key);
    if (!known)
      return { key, uuid: isGpuUuid(key) ? key : '', gpu: '', details: isGpuUuid(key) ? {} : { pci: key } };
    return { key, uuid: key, gpu: known.gpu, details: detailsOf(known) };
  }
}

function listedAs({ uuid, index, facts }: SmiGpu): ListedGpu {
  const pci = normalPci(facts.pci_bus_id) ?? '';
  return { key: uuid, uuid, gpu: index, details: detailsOf({ pci, serial: facts.serial }) };
}

function detailsOf({ pci, serial }: { pci: string; serial: string }): Record<string, string> {
  return { ...(pci && { pci }), ...(serial && { serial }) };
}
