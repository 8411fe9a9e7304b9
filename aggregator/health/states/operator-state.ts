import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { HealthShelf } from './health-shelf.ts';

/**
 * What operators say of a node. *degraded*: known to be worse than it looks. *drained*: no work is to be placed on
 * it. *maintenance*: being worked on. The last two suppress: nobody is to be woken by its GPUs.
 */
export const NODE_STATES = ['degraded', 'drained', 'maintenance'] as const;
export type NodeState = (typeof NODE_STATES)[number];

export interface NodeName {
  readonly cluster: string;
  readonly node: string;
}

export interface OperatorState extends NodeName {
  readonly state: NodeState;
  /** Who set it. */
  readonly by: string;
  readonly why: string;
  /** Unix milliseconds. */
  readonly sinceMs: number;
  /** When it ends by itself, Unix milliseconds; undefined: until it is cleared. */
  readonly untilMs?: number;
}

export interface OperatorStatesOptions {
  readonly shelf: HealthShelf;
  readonly clock: Clock;
  /** Most nodes with a state; 100,000 by default. */
  readonly maxNodes?: number;
  /** Told of each state that was set, with the one that it took the place of. */
  readonly onSet?: (state: OperatorState, before: OperatorState | undefined) => void;
}

const PREFIX = 'operator-state/';
const MAX_NAME = 256;
const MAX_WHY = 1_000;

/** The states that operators gave to nodes, one a node, on disk. An expired one is gone. */
export class OperatorStates {
  readonly #options: OperatorStatesOptions;
  readonly #states = new Map<string, OperatorState>();

  private constructor(options: OperatorStatesOptions) {
    this.#options = options;
  }

  static async open(options: OperatorStatesOptions): Promise<OperatorStates> {
    const states = new OperatorStates(options);
    for await (const [key, value] of options.shelf.entries(PREFIX))
      states.#states.set(key.slice(PREFIX.length), value as OperatorState);
    await states.#forgetExpired();
    return states;
  }

  /** The state of a node, or undefined. */
  of(name: NodeName): OperatorState | undefined {
    const state = this.#states.get(keyOf(name));
    return state !== undefined && this.#holds(state) ? state : undefined;
  }

  /** Transitions of this node's GPUs are kept and marked, and wake nobody. */
  suppresses(name: NodeName): boolean {
    const state = this.of(name)?.state;
    return state === 'drained' || state === 'maintenance';
  }

  /** By cluster and node. */
  list(): OperatorState[] {
    return [...this.#states.entries()]
      .filter(([, state]) => this.#holds(state))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, state]) => state);
  }

  /**
   * Sets the state of a node, in place of any before; resolves when it is on disk, and holds from then on. Throws
   * `invalid_input` without a node, an author or a reason, with one that is too long (256 and 1,000 characters), or
   * an end that is past; `resource_exhausted` where too many nodes have one.
   */
  async set(
    name: NodeName,
    told: Pick<OperatorState, 'state' | 'by' | 'why' | 'untilMs'>,
  ): Promise<OperatorState> {
    const state = this.#checked(name, told);
    const { maxNodes = 100_000, shelf } = this.#options;
    const key = keyOf(name);
    if (!this.#states.has(key) && this.#states.size >= maxNodes) await this.#forgetExpired();
    if (!this.#states.has(key) && this.#states.size >= maxNodes)
      throw new FleetError(
        'resource_exhausted',
        `Cannot set the state of node ${name.node}: ${maxNodes} nodes have one`,
      );
    await shelf.write([{ key: PREFIX + key, value: state }], true);
    const before = this.of(name);
    this.#states.set(key, state);
    this.#options.onSet?.(state, before);
    return state;
  }

  /** Takes the state of a node away; resolves when that is on disk. Throws `not_found` where it has none. */
  async clear(name: NodeName): Promise<OperatorState> {
    const state = this.of(name);
    if (state === undefined)
      throw new FleetError(
        'not_found',
        `Cannot clear the state of node ${name.node.slice(0, MAX_NAME)}: no operator gave it one`,
      );
    const key = keyOf(name);
    await this.#options.shelf.write([{ key: PREFIX + key }], true);
    this.#states.delete(key);
    return state;
  }

  #checked(name: NodeName, told: Pick<OperatorState, 'state' | 'by' | 'why' | 'untilMs'>): OperatorState {
    const nowMs = this.#options.clock.now();
    const { state, by, why, untilMs } = told;
    if (!NODE_STATES.includes(state)) refuse(name, `the state must be one of ${NODE_STATES.join(', ')}`);
    if (name.node === '' || name.node.length > MAX_NAME || name.cluster.length > MAX_NAME)
      refuse(name, `a node has a name of at most ${MAX_NAME} characters`);
    if (by.trim() === '' || by.length > MAX_NAME) refuse(name, 'it must say who sets it');
    if (why.trim() === '' || why.length > MAX_WHY)
      refuse(name, `it needs a reason of at most ${MAX_WHY} characters`);
    if (untilMs !== undefined && !(untilMs > nowMs && Number.isFinite(untilMs)))
      refuse(name, 'its end is not in the future');
    const { cluster, node } = name;
    return { cluster, node, state, by, why, sinceMs: nowMs, ...(untilMs !== undefined && { untilMs }) };
  }

  async #forgetExpired(): Promise<void> {
    const gone = [...this.#states].filter(([, state]) => !this.#holds(state)).map(([key]) => key);
    if (gone.length === 0) return;
    await this.#options.shelf.write(
      gone.map((key) => ({ key: PREFIX + key })),
      false,
    );
    for (const key of gone) this.#states.delete(key);
  }

  #holds({ untilMs }: OperatorState): boolean {
    return untilMs === undefined || this.#options.clock.now() < untilMs;
  }
}

function keyOf({ cluster, node }: NodeName): string {
  return `${cluster}\n${node}`;
}

function refuse({ node }: NodeName, why: string): never {
  throw new FleetError('invalid_input', `Cannot set the state of node ${node.slice(0, MAX_NAME)}: ${why}`);
}
