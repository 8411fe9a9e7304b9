import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeError, FleetError } from '#shared/errors/fleet-error.ts';
import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { stampOf } from '../files/file-stamp.ts';
import { diffRules, type RuleDiff } from './rule-diff.ts';
import type { Rule, RuleSet } from './rules.ts';
import { parseRuleTexts, type RulesText } from './rules-file.ts';

/** Files of one folder. */
const MAX_FILES = 100;
const SHIPPED = new URL('./default-rules.yaml', import.meta.url);
const KINDS: readonly Rule['kind'][] = ['threshold', 'absent', 'aggregate', 'event'];

/**
 * Reads the rules of a file, or of the `*.yaml` files of a folder in the order of their names. Throws `invalid_config`
 * with every fault of every file, or where there is nothing to read.
 */
export async function readRules(path: string): Promise<RuleSet> {
  const files: RulesText[] = [];
  try {
    for (const source of await filesOf(path)) files.push({ source, text: await readFile(source, 'utf8') });
  } catch (error) {
    if (error instanceof FleetError) throw error;
    throw new FleetError('invalid_config', `Cannot read alert rules ${path}: ${describeError(error)}`);
  }
  return parseRuleTexts(files, path);
}

export interface RuleBookOptions {
  /** A file, or a folder of `*.yaml` files; the rules that gpufleet ships with where not given. */
  readonly file: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly registry: Registry;
}

export type Reload = ({ readonly ok: true } & RuleDiff) | { readonly ok: false; readonly why: string };

/**
 * The rules that run, and the file that they are from. A reload takes them as a whole or not at all: a file with a
 * fault, or that is gone, changes nothing that runs.
 */
export class RuleBook {
  readonly #path: string;
  readonly #options: RuleBookOptions;
  readonly #listeners = new Set<(rules: RuleSet) => void>();
  readonly #reloads: Counter<'outcome'>;
  #current: RuleSet;
  #loadedAtMs: number;
  /** Of the files as they were when they were last read. */
  #stamp: string;
  #fault = '';
  /** Ends when the last reload that was asked for has. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(path: string, current: RuleSet, stamp: string, options: RuleBookOptions) {
    this.#stamp = stamp;
    this.#path = path;
    this.#options = options;
    this.#current = current;
    this.#loadedAtMs = options.clock.now();
    this.#reloads = counter(options.registry, {
      name: 'gpufleet_alert_rules_reloads_total',
      help: 'Times that the rules were read again, by whether they were taken (ok) or have a fault (failed).',
      labelNames: ['outcome'],
    });
    for (const outcome of ['ok', 'failed']) this.#reloads.inc({ outcome }, 0);
    this.#register(options.registry);
    this.#log();
  }

  /** Throws `invalid_config` with every fault: nothing starts on rules that are not understood. */
  static async open(options: RuleBookOptions): Promise<RuleBook> {
    const path = options.file ?? fileURLToPath(SHIPPED);
    const stamp = await filesOf(path).then(stampOf, describeError);
    return new RuleBook(path, await readRules(path), stamp, options);
  }

  /** What runs. */
  get current(): RuleSet {
    return this.#current;
  }

  /** When it was read, Unix ms. */
  get loadedAtMs(): number {
    return this.#loadedAtMs;
  }

  /** Why what is on disk is not what runs, as of the last reload; empty where it is. */
  get fault(): string {
    return this.#fault;
  }

  /** Reads the files again, after a reload that still goes on. Never rejects. */
  reload(): Promise<Reload> {
    const next = this.#last.then(() => this.#reload());
    this.#last = next;
    return next;
  }

  /** Reads the files again where one was written, came or went since they were last read. Never rejects. */
  async reloadIfChanged(): Promise<void> {
    if ((await this.#stampNow()) !== this.#stamp) await this.reload();
  }

  /** Tells of each set of rules that was taken from now on, also of one that is the same, until disposed. */
  onChange(listener: (rules: RuleSet) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  #stampNow(): Promise<string> {
    return filesOf(this.#path).then(stampOf, describeError);
  }

  async #reload(): Promise<Reload> {
    let next: RuleSet;
    const stamp = await this.#stampNow();
    this.#stamp = stamp;
    try {
      next = await readRules(this.#path);
      // Half a file may be a whole one of fewer rules, whose alerts would resolve.
      if ((await this.#stampNow()) !== stamp)
        throw new FleetError('unavailable', `Cannot read alert rules ${this.#path}: they are being written`);
    } catch (error) {
      // Whole, unlike a sentence for the log: who mends a file needs every fault.
      this.#fault = error instanceof FleetError ? error.message : describeError(error);
      this.#reloads.inc({ outcome: 'failed' });
      this.#options.logger.error({ rules: this.#path }, `alert rules stay as they were: ${this.#fault}`);
      return { ok: false, why: this.#fault };
    }
    const diff = diffRules(this.#current.rules, next.rules);
    this.#current = next;
    this.#loadedAtMs = this.#options.clock.now();
    this.#fault = '';
    this.#reloads.inc({ outcome: 'ok' });
    this.#log(diff);
    for (const listener of this.#listeners) this.#tell(listener, next);
    return { ok: true, ...diff };
  }

  /** A fault of one listener must end neither the others nor the process. */
  #tell(listener: (rules: RuleSet) => void, rules: RuleSet): void {
    try {
      listener(rules);
    } catch (error) {
      this.#options.logger.error({ why: describeError(error) }, 'cannot apply alert rules');
    }
  }

  #log(diff?: RuleDiff): void {
    const { logger } = this.#options;
    const { rules, disabled, warnings } = this.#current;
    for (const warning of warnings) logger.warn({ rules: this.#path }, warning);
    logger.info({ from: this.#path, rules: rules.length, disabled, ...diff }, 'alert rules loaded');
  }

  #register(registry: Registry): void {
    const counts = () => Map.groupBy(this.#current.rules, ({ kind }) => kind);
    const loadedAtMs = () => this.#loadedAtMs;
    const fault = () => this.#fault;
    gauge(registry, {
      name: 'gpufleet_alert_rules_loaded',
      help: 'Rules that run, by kind.',
      labelNames: ['kind'],
      collect() {
        const byKind = counts();
        for (const kind of KINDS) this.set({ kind }, byKind.get(kind)?.length ?? 0);
      },
    });
    gauge(registry, {
      name: 'gpufleet_alert_rules_loaded_timestamp_seconds',
      help: 'When the rules that run were read.',
      collect() {
        this.set(loadedAtMs() / 1000);
      },
    });
    gauge(registry, {
      name: 'gpufleet_alert_rules_faulty',
      help: '1 where the last reload was refused: the rules that run are not those on disk.',
      collect() {
        this.set(fault() === '' ? 0 : 1);
      },
    });
  }
}

async function filesOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  // The hidden ones are an editor's, or what a mounted ConfigMap keeps its versions in.
  const names = (await readdir(path)).filter(
    (name) => /\.ya?ml$/.test(name) && !basename(name).startsWith('.'),
  );
  if (names.length === 0)
    throw new FleetError('invalid_config', `Cannot read alert rules ${path}: no *.yaml in it`);
  if (names.length > MAX_FILES) {
    throw new FleetError('invalid_config', `Cannot read alert rules ${path}: more than ${MAX_FILES} files`);
  }
  return names.sort().map((name) => join(path, name));
}
