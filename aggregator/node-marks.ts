import type { Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Assessment } from './assessment.ts';
import type { NodeName, OperatorState, OperatorStates } from './health/states/operator-state.ts';
import type { LatestTable } from './store/latest.ts';

export interface NodeMarksOptions {
  readonly assessment: Pick<Assessment, 'operators' | 'tell'>;
  readonly latest: Pick<LatestTable, 'find'>;
  readonly clock: Clock;
  /** A person put a node back into service: who, and why. Must not throw. */
  readonly onCleared: (name: NodeName, by: string, why: string) => void;
}

type Told = Parameters<OperatorStates['set']>[1];

/** What is said of nodes, by operators and by actions alike: kept, told as an event, and heeded by whoever asks. */
export class NodeMarks {
  readonly #options: NodeMarksOptions;

  constructor(options: NodeMarksOptions) {
    this.#options = options;
  }

  get(name: NodeName): OperatorState | undefined {
    return this.#options.assessment.operators.of(name);
  }

  /** By cluster and node. */
  list(): OperatorState[] {
    return this.#options.assessment.operators.list();
  }

  /** Throws as OperatorStates.set does. */
  async set(name: NodeName, told: Told): Promise<OperatorState> {
    const set = await this.#options.assessment.operators.set(name, told);
    this.#tell(name, told.state, told.why, told.by);
    return set;
  }

  /** By a person: the node is back in service. Throws `not_found` where the node has none. */
  async clear(name: NodeName, why: string, by: string): Promise<void> {
    await this.withdraw(name, why, by);
    this.#options.onCleared(name, by, why);
  }

  /** Takes a mark away that was ours: that says nothing of what others hold of the node. Throws as `clear` does. */
  async withdraw(name: NodeName, why: string, by: string): Promise<void> {
    await this.#options.assessment.operators.clear(name);
    this.#tell(name, '', why, by);
  }

  #tell(name: NodeName, mark: string, why: string, by: string): void {
    const { assessment, latest, clock } = this.#options;
    const source: Source = latest.find(name.cluster, name.node)?.source ?? { ...name, externalLabels: [] };
    assessment.tell(source, markEvent(mark, why, by, clock.now()));
  }
}

function markEvent(mark: string, why: string, by: string, timestampMs: number): FleetEvent {
  const text = mark === '' ? `the node is no longer marked: ${why}` : `the node is marked ${mark}: ${why}`;
  return { type: 'node_mark', timestampMs, gpu: '', gpuUuid: '', text, attributes: { mark, by } };
}
