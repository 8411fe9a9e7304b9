import type { Hello } from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { RUN_ID_BYTES } from '#shared/model/run.ts';
import { labelsFault } from '#shared/wire/dictionary.ts';

/** What one stream may do to the rest of the fleet. */
export interface AdmissionLimits {
  /** Series of all groups of a node together. */
  readonly seriesPerNode: number;
  readonly dictionariesPerStream: number;
  readonly runsPerHello: number;
  /** Live samples of a node each second; more are deferred. */
  readonly samplesPerSecond: number;
}

export const DEFAULT_LIMITS: AdmissionLimits = {
  seriesPerNode: 10_000,
  dictionariesPerStream: 1_000,
  runsPerHello: 10_000,
  // Every allowed series at the shortest interval, 100 ms, and twice that.
  samplesPerSecond: 200_000,
};

const NAME = /^[\x21-\x7e]{1,253}$/;

/** The source that a Hello speaks for. Throws `invalid_input` or `permission_denied`. */
export function admitHello(hello: Hello, boundNode: string | undefined, limits: AdmissionLimits): Source {
  const fail = (what: string): never => {
    throw new FleetError('invalid_input', `Cannot admit stream: ${what}`);
  };
  if (!NAME.test(hello.node)) fail('its node name is empty, too long, or not printable ASCII');
  if (!NAME.test(hello.cluster)) fail('its cluster name is empty, too long, or not printable ASCII');
  if (hello.machineId === '' || hello.machineId.length > 253) fail('its machine id is empty or too long');
  if (boundNode !== undefined && boundNode !== hello.node) {
    throw new FleetError(
      'permission_denied',
      `Cannot admit node "${hello.node}": the credential of this stream belongs to node "${boundNode}"`,
    );
  }
  if (hello.runs.length === 0 || hello.runs.length > limits.runsPerHello)
    fail(`it names ${hello.runs.length} runs`);
  if (hello.runs.some((run) => run.id.length !== RUN_ID_BYTES))
    fail(`a run id does not have ${RUN_ID_BYTES} bytes`);
  const externalLabels = Object.entries(hello.externalLabels).sort(([a], [b]) => (a < b ? -1 : 1));
  const fault = labelsFault(externalLabels);
  if (fault) fail(`external labels: ${fault}`);
  return { cluster: hello.cluster, node: hello.node, externalLabels };
}

/** Series of all dictionaries that a stream has brought, as a multiple of what its node may have at once. */
const KEPT_SERIES_SHARE = 4;

/** A dictionary that the stream may use, or why its ticks are refused. */
type Entry = { readonly dictionary: Dictionary } | { readonly refusal: string };

/**
 * The dictionaries of one stream by the agent's ids. Series are counted over each group's newest dictionary; of one
 * that goes over the node's limit only the reason is kept: its ticks are refused, counted, named, in the ledger.
 */
export class DictionaryTable {
  readonly #limits: AdmissionLimits;
  readonly #byId = new Map<number, Entry>();
  readonly #seriesByGroup = new Map<string, number>();
  #kept = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get seriesCount(): number {
    let count = 0;
    for (const series of this.#seriesByGroup.values()) count += series;
    return count;
  }

  /** Throws `resource_exhausted` where the stream has too many; the agent then begins a new one. */
  add(id: number, dictionary: Dictionary): void {
    const { group, series } = dictionary;
    const { seriesPerNode, dictionariesPerStream } = this.#limits;
    if (!this.#byId.has(id) && this.#byId.size >= dictionariesPerStream)
      this.#full(group, `${this.#byId.size} dictionaries`);
    const others = this.seriesCount - (this.#seriesByGroup.get(group) ?? 0);
    const total = others + series.length;
    if (total > seriesPerNode) {
      const refusal = `group "${group}" brings the node to ${total} series, ${seriesPerNode} are allowed`;
      this.#byId.set(id, { refusal });
      return;
    }
    this.#kept += series.length;
    if (this.#kept > KEPT_SERIES_SHARE * seriesPerNode) this.#full(group, `${this.#kept} series of them`);
    this.#seriesByGroup.set(group, series.length);
    this.#byId.set(id, { dictionary });
  }

  /** Throws `invalid_input` for an id that the stream has not defined. */
  get(id: number): Entry {
    const entry = this.#byId.get(id);
    if (!entry)
      throw new FleetError(
        'invalid_input',
        `Cannot read tick: its dictionary ${id} was not sent on this stream`,
      );
    return entry;
  }

  #full(group: string, what: string): never {
    throw new FleetError(
      'resource_exhausted',
      `Cannot take dictionary of group "${group}": the stream has brought ${what}, begin a new one`,
    );
  }
}
