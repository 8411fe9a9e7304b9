import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter } from 'yaml';

/** Where a fault is, from the top of the file: `['rules', 2, 'severities', 0, 'above']`. */
export type Path = readonly (string | number)[];

/** A parsed file. */
interface YamlFile {
  readonly text: string;
  readonly document: Document;
  readonly lines: LineCounter;
}

interface Fault {
  readonly offset: number;
  readonly text: string;
}

/** More than these are not told: a file of another kind has a fault on each line. */
const MAX_FAULTS = 100;

/** The faults of one file, each as `rules.yaml:12:7: rules[2].severities[0].above: must be a number`. */
export class YamlFaults {
  readonly #source: string;
  readonly #file: YamlFile | undefined;
  readonly #faults: Fault[] = [];

  /** Without a file faults have no place, as where it cannot be read at all. */
  constructor(source: string, file?: YamlFile) {
    this.#source = source;
    this.#file = file;
  }

  get count(): number {
    return this.#faults.length;
  }

  /** `inside` is a text within the value that is at fault, `key` says that the setting's name is. */
  add(path: Path, message: string, where: { readonly key?: boolean; readonly inside?: string } = {}): void {
    const name = pathText(path);
    const text = name === '' ? message : `${name}: ${message}`;
    this.addAt(this.#locate(path, where.key === true, where.inside), text);
  }

  /** Of the text at an offset of the file. */
  addAt(offset: number, message: string): void {
    this.#faults.push({ offset, text: message });
  }

  /** In order of their places. */
  list(): string[] {
    const faults = this.#faults.toSorted((a, b) => a.offset - b.offset);
    const told = faults.slice(0, MAX_FAULTS).map((fault) => `${this.#place(fault.offset)}: ${fault.text}`);
    if (faults.length > MAX_FAULTS) told.push(`${this.#source}: and ${faults.length - MAX_FAULTS} more`);
    return told;
  }

  #place(offset: number): string {
    if (this.#file === undefined) return this.#source;
    const { line, col } = this.#file.lines.linePos(offset);
    return `${this.#source}:${line}:${col}`;
  }

  /** Offset of what the path names, or of the innermost thing around it that is there. */
  #locate(path: Path, key: boolean, inside: string | undefined): number {
    const file = this.#file;
    if (file === undefined) return 0;
    let node: unknown = file.document.contents;
    let at = start(node) ?? 0;
    for (const [depth, part] of path.entries()) {
      if (isAlias(node)) node = node.resolve(file.document);
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(part));
        if (pair === undefined) return at;
        at = start(pair.key) ?? at;
        if (key && depth === path.length - 1) return at;
        node = pair.value;
      } else if (isSeq(node)) {
        node = node.items[Number(part)];
      } else {
        return at;
      }
      at = start(node) ?? at;
    }
    if (inside === undefined || !isScalar(node) || !node.range) return at;
    // As the file writes it: a folded or quoted text is not what it stands for, but a place is mostly on one line.
    const within = file.text.slice(node.range[0], node.range[1]).indexOf(inside);
    return within < 0 ? at : at + within;
  }
}

function start(node: unknown): number | undefined {
  return (node as { range?: readonly number[] | null } | undefined | null)?.range?.[0];
}

function pathText(path: Path): string {
  let text = '';
  for (const part of path) {
    text += typeof part === 'number' ? `[${part}]` : `${text === '' ? '' : '.'}${part}`;
  }
  return text;
}
