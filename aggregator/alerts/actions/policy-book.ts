import { isDeepStrictEqual } from 'node:util';
import type { Executor } from './executor.ts';
import type { ExecutorDeps, ExecutorKind } from './executors/executor-kind.ts';
import { type ActionMode, type ActionSettings, isLive, type OpenPolicy } from './policy.ts';

/** What one reading of the file gave. */
interface Edition {
  readonly mode: ActionMode;
  readonly policies: ReadonlyMap<string, OpenPolicy>;
  /** Moves under way that began with it. */
  users: number;
}

interface PolicyBookOptions {
  readonly kinds: Readonly<Record<string, ExecutorKind>>;
  readonly executorDeps: ExecutorDeps;
}

/**
 * The policies that hold now, by name, and their executors. The file may be read again while actions run: a step of
 * the same settings keeps its executor, and what it knows; one that is gone is closed once nobody uses it.
 */
export class PolicyBook implements AsyncDisposable {
  readonly #options: PolicyBookOptions;
  #now: Edition = { mode: 'dry_run', policies: new Map(), users: 0 };
  /** The one that holds, and those before it that a move still uses. */
  readonly #editions = new Set<Edition>([this.#now]);

  constructor(options: PolicyBookOptions) {
    this.#options = options;
  }

  get(name: string): OpenPolicy | undefined {
    return this.#now.policies.get(name);
  }

  /** In the order of the file. */
  values(): Iterable<OpenPolicy> {
    return this.#now.policies.values();
  }

  /** Whether the file as it is now lets a policy touch machines, whatever it said when the caller looked it up. */
  isLive(name: string): boolean {
    const policy = this.get(name);
    return policy !== undefined && isLive(this.#now.mode, policy);
  }

  /** No executor that could be looked up in here is closed before `work` has ended. */
  async using<T>(work: () => Promise<T>): Promise<T> {
    const edition = this.#now;
    edition.users++;
    try {
      return await work();
    } finally {
      edition.users--;
      await this.#retire(edition);
    }
  }

  /** One at a time. Throws what an executor cannot be opened for, and then changes nothing. */
  async hold({ mode, policies }: ActionSettings): Promise<void> {
    const opened = new Map<string, OpenPolicy>();
    const fresh: Executor[] = [];
    try {
      for (const policy of policies) {
        const executors: Executor[] = [];
        for (const [index, { kind, settings }] of policy.steps.entries()) {
          const kept = this.#kept(policy.name, index, kind, settings);
          const executor =
            kept ?? (await this.#options.kinds[kind]!.open(settings, this.#options.executorDeps));
          if (kept === undefined) fresh.push(executor);
          executors.push(executor);
        }
        opened.set(policy.name, { ...policy, executors });
      }
    } catch (thrown) {
      for (const executor of fresh) await executor[Symbol.asyncDispose]();
      throw thrown;
    }
    const before = this.#now;
    this.#now = { mode, policies: opened, users: 0 };
    this.#editions.add(this.#now);
    await this.#retire(before);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = new Set([...this.#editions].flatMap(executorsOf));
    this.#editions.clear();
    for (const executor of all) await executor[Symbol.asyncDispose]();
  }

  #kept(name: string, index: number, kind: string, settings: unknown): Executor | undefined {
    const policy = this.get(name);
    const step = policy?.steps[index];
    return step?.kind === kind && isDeepStrictEqual(step.settings, settings)
      ? policy?.executors[index]
      : undefined;
  }

  async #retire(edition: Edition): Promise<void> {
    if (edition === this.#now || edition.users > 0 || !this.#editions.delete(edition)) return;
    const used = new Set([...this.#editions].flatMap(executorsOf));
    for (const executor of executorsOf(edition))
      if (!used.has(executor)) await executor[Symbol.asyncDispose]();
  }
}

function executorsOf({ policies }: Edition): Executor[] {
  return Array.from(policies.values(), ({ executors }) => executors).flat();
}
