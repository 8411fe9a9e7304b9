import { appendFileSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A tick that the source produced. */
export interface WitnessedTick {
  readonly node: string;
  readonly group: string;
  /** See oracle-source.ts. */
  readonly n: number;
  /** The agent's wall clock when the read began, Unix ms: its timestamp is this or at most 50 ms from it. */
  readonly beganMs: number;
  /** Known once the agent had recorded it; a tick without may be stored or not. */
  readonly timestampMs: number | undefined;
  /** The event that it brought. */
  readonly event: string | undefined;
  /** The agent was done with it and did not have it. */
  readonly forgotten?: true;
}

type Line =
  | readonly ['produced', group: string, n: number, beganMs: number, event: string | null]
  | readonly ['recorded', group: string, n: number, timestampMs: number]
  | readonly ['forgotten', group: string, n: number];

/**
 * What an agent's source says under oath, in a file that neither the agent nor any fault touches. Appended
 * synchronously: a kill -9 right after cannot take it back.
 */
export class Witness {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  produced(group: string, n: number, beganMs: number, event: string | undefined): void {
    this.#append(['produced', group, n, beganMs, event ?? null]);
  }

  /** The agent had finished with the tick: what it promises about samples counts from here. */
  recorded(group: string, n: number, timestampMs: number): void {
    this.#append(['recorded', group, n, timestampMs]);
  }

  /** The agent had finished with the tick, and does not show it: nobody can say what became of it. */
  forgotten(group: string, n: number): void {
    this.#append(['forgotten', group, n]);
  }

  #append(line: Line): void {
    appendFileSync(this.#file, `${JSON.stringify(line)}\n`);
  }
}

/** One file for each start of each agent: `<node>.<start>.jsonl`. */
export function witnessFile(directory: string, node: string, start: number): string {
  return join(directory, `${node}.${start}.jsonl`);
}

/** Everything that was witnessed, of all nodes. */
export function readWitnesses(directory: string): WitnessedTick[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) =>
      parseWitness(name.replace(/\.\d+\.jsonl$/, ''), readFileSync(join(directory, name), 'utf8')),
    );
}

/** A line that a kill -9 cut in two is as if it had not been written: the tick was not yet given to the agent. */
export function parseWitness(node: string, text: string): WitnessedTick[] {
  const ticks = new Map<string, WitnessedTick>();
  for (const raw of text.split('\n').slice(0, -1)) {
    const line = JSON.parse(raw) as Line;
    const key = `${line[1]}/${line[2]}`;
    if (line[0] === 'produced') {
      const [, group, n, beganMs, event] = line;
      ticks.set(key, { node, group, n, beganMs, timestampMs: undefined, event: event ?? undefined });
    } else {
      const produced = ticks.get(key);
      if (!produced) throw new Error(`the witness of ${node} has ${key} ${line[0]} and never produced`);
      ticks.set(
        key,
        line[0] === 'recorded' ? { ...produced, timestampMs: line[3] } : { ...produced, forgotten: true },
      );
    }
  }
  return [...ticks.values()];
}
