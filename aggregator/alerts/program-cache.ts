import type { Block, Source } from '#shared/model/block.ts';
import type { Dictionary } from '#shared/model/dictionary.ts';
import { type AlertTable, nodeNameOf } from './alert-table.ts';
import { compileProgram } from './rules/compile-program.ts';
import { type Growth, GrowthMemory } from './rules/growth.ts';
import type { RuleProgram } from './rules/rule-program.ts';
import type { ThresholdRule } from './rules/rules.ts';

/** What is kept for one group of series of one stream. */
interface Compiled {
  readonly dictionary: Dictionary;
  readonly program: RuleProgram;
  readonly growth: Growth;
}

/**
 * The program of each group's dictionary of each stream, compiled with its first block and gone with the stream. Of one
 * group only the last dictionary's is kept: one that comes back goes on from what the others have counted meanwhile.
 */
export class ProgramCache {
  /** Over reconnects and changes of rules. */
  readonly #growth = new GrowthMemory();
  #rules: readonly ThresholdRule[] = [];
  #programs = new WeakMap<Source, Map<string, Compiled>>();

  /** All programs are compiled anew. */
  setRules(rules: readonly ThresholdRule[]): void {
    this.#rules = rules;
    this.#programs = new WeakMap();
  }

  /** `alerts` are those that a new program watches from its first block on. */
  of({ source, dictionary }: Block, alerts: AlertTable): Compiled {
    let programs = this.#programs.get(source);
    if (programs === undefined) {
      programs = new Map();
      this.#programs.set(source, programs);
    }
    let compiled = programs.get(dictionary.group);
    if (compiled?.dictionary !== dictionary) {
      compiled = this.#compile(source, dictionary, alerts);
      programs.set(dictionary.group, compiled);
    }
    return compiled;
  }

  #compile(source: Source, dictionary: Dictionary, alerts: AlertTable): Compiled {
    const program = compileProgram(source, dictionary, this.#rules);
    const node = nodeNameOf(source);
    // Alerts of an earlier stream or run: from then on only the program's own checks make any.
    for (let check = 0; alerts.hasNode(node) && check < program.count; check++) {
      if (alerts.get(program.alertId(check)) !== undefined) program.watch(check, true);
    }
    return { dictionary, program, growth: this.#growth.begin(`${node}\0${dictionary.group}`, program) };
  }
}
