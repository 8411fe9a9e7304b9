import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { labelOf, type Series } from '#shared/model/dictionary.ts';
import { type FleetEvent, MAX_EVENT_TEXT } from '#shared/model/event.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { seriesFault } from '#shared/wire/dictionary.ts';
import { canonicalSeries } from '../canonical-series.ts';
import { type Collector, type Reading, SOURCE_RANK } from '../collector.ts';
import { ReadingTable } from '../reading-table.ts';
import type { Facts } from '../source-kind.ts';
import type { GpuDirectory } from './gpu-directory.ts';
import type { Holding, Holdings } from './holding.ts';

/** Something that knows who holds which GPU. */
export interface HoldingsSource extends AsyncDisposable {
  /** Throws a FleetError where it cannot tell: then nothing has changed, as far as we know. */
  read(signal: AbortSignal): Promise<Holdings>;
  /** What happened on the way, such as a tool that is stuck. */
  takeEvents?(): FleetEvent[];
}

export interface WorkloadOptions {
  readonly name: string;
  /** For people. */
  readonly what: string;
  readonly source: HoldingsSource;
  readonly directory: GpuDirectory;
  readonly intervalMs: number;
  readonly facts: Facts;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** 16 GPUs in 7 MIG instances each, shared by four. Those over it are counted. */
const MAX_HOLDINGS = 448;
/** What is remembered over a restart is a fact in the buffer's database. */
const MAX_FACT_CHARACTERS = 256 * 1024;

/**
 * Who holds which GPU: a `gpu_job_info` of 1 for each pair of a holder and a GPU, so that a job makes no new series
 * but these; and `job_change` events when one begins or ends. Holders are remembered over a restart of the agent, so
 * that a running job does not begin again.
 *
 * A series whose holder is gone is Stale once and then leaves. Where the source cannot be read nobody ends: the
 * series are without value.
 */
export class WorkloadCollector implements Collector {
  readonly name: string;
  readonly rank = SOURCE_RANK.other;
  readonly holdsDevice = false;
  readonly intervalMs: number;
  readonly #options: WorkloadOptions;
  readonly #table: ReadingTable;
  /** By their identity; undefined before the first read. */
  #known: ReadonlyMap<string, Series> | undefined;
  #ended: readonly Series[] = [];
  #planned: readonly Series[] = [];
  #lastProblem = '';

  constructor(options: WorkloadOptions) {
    const { name, intervalMs, clock } = options;
    this.name = name;
    this.intervalMs = intervalMs;
    this.#options = options;
    this.#table = new ReadingTable({
      source: name,
      intervalMs,
      clock,
      // Those that have just ended beside those that begin.
      seriesLimit: 2 * MAX_HOLDINGS,
    });
  }

  describe(): string {
    return `${this.#options.what}, ${this.#known?.size ?? 0} holders of GPUs`;
  }

  async collect(signal: AbortSignal): Promise<Reading> {
    const { source, directory, clock } = this.#options;
    this.#table.begin();
    try {
      const { held, malformed } = await source.read(signal);
      await Promise.race([directory.refresh(clock.monotonic()), aborted(signal)]);
      this.#lastProblem = '';
      this.#table.reject('malformed', malformed);
      const events = this.#change(this.#seriesOf(held));
      this.#put();
      return this.#table.finish([...(source.takeEvents?.() ?? []), ...events]);
    } catch (error) {
      if (!(error instanceof FleetError)) throw error;
      this.#note(error);
      const denied = error.code === 'permission_denied' ? SlotState.NoPermission : SlotState.Absent;
      const events = source.takeEvents?.() ?? [];
      return this.#table.failed(signal.aborted ? SlotState.Timeout : denied, events, describeError(error));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.source[Symbol.asyncDispose]();
  }

  #seriesOf(held: readonly Holding[]): Map<string, Series> {
    const found = new Map<string, Series>();
    for (const { gpu, labels } of held) {
      const series = canonicalSeries('gpu_job_info', { ...labels, ...this.#options.directory.labelsOf(gpu) });
      const key = JSON.stringify(series.labels);
      if (found.has(key)) continue;
      if (seriesFault(series) !== undefined) this.#table.reject('label_limit');
      else if (found.size === MAX_HOLDINGS) this.#table.reject('series_limit');
      else found.set(key, series);
    }
    return found;
  }

  #change(found: ReadonlyMap<string, Series>): FleetEvent[] {
    const known = this.#known ?? this.#remembered();
    const begun = [...found].filter(([key]) => !known.has(key)).map(([, series]) => series);
    const ended = [...known].filter(([key]) => !found.has(key)).map(([, series]) => series);
    const changed = begun.length + ended.length > 0;
    if (changed) this.#remember(found);
    if (changed || this.#ended.length > 0 || this.#known === undefined) {
      // What was remembered from before a restart has no series of this run that could end.
      this.#ended = this.#known === undefined ? [] : ended;
      this.#planned = [...found.values(), ...this.#ended];
    }
    this.#known = found;
    const now = this.#options.clock.now();
    return [
      ...ended.map((series) => jobChange('end', series, now)),
      ...begun.map((series) => jobChange('start', series, now)),
    ];
  }

  #put(): void {
    this.#table.plan(this.#planned);
    const live = this.#planned.length - this.#ended.length;
    for (let i = 0; i < this.#planned.length; i++) {
      if (i < live) this.#table.put(i, 1);
      else this.#table.miss(i, SlotState.Stale);
    }
  }

  get #fact(): string {
    return `workload/${this.name}`;
  }

  #remembered(): Map<string, Series> {
    const found = new Map<string, Series>();
    try {
      const text = this.#options.facts.get(this.#fact) ?? '[]';
      for (const key of JSON.parse(text) as string[]) {
        const series = canonicalSeries('gpu_job_info', Object.fromEntries(JSON.parse(key)));
        if (found.size < MAX_HOLDINGS) found.set(key, series);
      }
    } catch {
      // Not ours, or of another version: every holder begins anew, which is the same as on a new disk.
      found.clear();
    }
    return found;
  }

  #remember(found: ReadonlyMap<string, Series>): void {
    const text = JSON.stringify([...found.keys()]);
    this.#options.facts.set(this.#fact, text.length <= MAX_FACT_CHARACTERS ? text : '[]');
  }

  #note(error: FleetError): void {
    const problem = describeError(error);
    if (problem !== this.#lastProblem) this.#options.logger.warn({ source: this.name }, problem);
    this.#lastProblem = problem;
  }
}

function jobChange(change: 'start' | 'end', { labels }: Series, timestampMs: number): FleetEvent {
  const of = (name: string): string => labelOf(labels, name) ?? '';
  const on = of('mig_uuid') || (of('gpu') === '' ? of('uuid') : `GPU ${of('gpu')}`);
  const verb = change === 'start' ? 'began' : 'ended';
  return {
    type: 'job_change',
    timestampMs,
    gpu: of('gpu'),
    gpuUuid: of('uuid'),
    text: `${holderOf(of)} ${verb} on ${on}`.slice(0, MAX_EVENT_TEXT),
    attributes: {
      change,
      ...Object.fromEntries(labels.filter(([name]) => name !== 'gpu' && name !== 'uuid')),
    },
  };
}

/** `Slurm job 42 (train) of alice`, `container ml/train-0/main`, `process python of bob`. */
function holderOf(of: (name: string) => string): string {
  const user = of('user') === '' ? '' : ` of ${of('user')}`;
  if (of('workload') === 'kubernetes') return `container ${of('namespace')}/${of('pod')}/${of('container')}`;
  if (of('workload') !== 'slurm') return `process ${of('process')}${user}`;
  return `Slurm job ${of('slurm_job_id')}${of('job_name') === '' ? '' : ` (${of('job_name')})`}${user}`;
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
}
