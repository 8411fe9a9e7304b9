import { posix } from 'node:path';

/** A source file as the rules see it; `path` from the repository's root, with slashes. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/**
 * Packages with one door: in each of agent, aggregator and shared, one stage folder alone imports them, so that
 * swapping one is a change in one folder. The files that wire the stages do not count: they hand over credentials.
 * A trailing slash names a whole scope.
 */
const DOORS = ['@nats-io/', 'level', 'classic-level', 'undici', '@grpc/grpc-js', 'snappy'] as const;

/**
 * Collectors speak the protocols of what they read, and alerts those of whom they tell and what they drain, over any
 * package: that is no door of the product's own.
 */
const SPEAKS_TO_OTHERS = [
  { folder: 'agent/collect/', packages: ['@grpc/grpc-js'] },
  { folder: 'aggregator/alerts/', packages: ['undici'] },
];

/** Names that say nothing of what is inside. */
const EMPTY_NAMES = ['util', 'utils', 'common', 'helper', 'helpers', 'misc', 'manager', 'managers', 'base'];

/** What every main.ts of the product calls to get its signal: the one other file that may listen for signals. */
const SIGNAL_DOOR = 'shared/lifecycle/run-main.ts';

/** Folders whose files are branches of a main.ts: they wire stages, as it does. */
const WIRING = ['agent/commands'];

/**
 * The one part of the command line that reaches into a stage: checking, testing and importing rules files asks no server,
 * and what it says must be what the aggregator will do, so that it runs the aggregator's own reader and engine.
 */
const RULES_COMMANDS = { file: 'aggregator/cli/rules.ts', folder: 'aggregator/alerts/rules/' };

/** The folders of the product; the rules for stages and doors are about them. */
const PRODUCT = ['agent', 'aggregator', 'shared'];

/** Every break of the rules, one sentence each. */
export function violations(files: readonly SourceFile[]): string[] {
  return [...files.flatMap(fileViolations), ...doorViolations(files)].sort();
}

function fileViolations(file: SourceFile): string[] {
  return [
    ...nameViolations(file.path),
    ...processViolations(file),
    ...importsOf(file.text).flatMap((specifier) => importViolations(file.path, specifier)),
  ];
}

function nameViolations(path: string): string[] {
  const found: string[] = [];
  const parts = path.split('/');
  const stem = parts.at(-1)!.replace(/(\.test|\.long\.test)?\.\w+$/, '');
  for (const name of [...parts.slice(0, -1), stem]) {
    const last = name.split('-').at(-1)!;
    if (EMPTY_NAMES.includes(name) || (name.includes('-') && EMPTY_NAMES.includes(last) && last !== 'base')) {
      found.push(`${path}: "${name}" says nothing of what is inside`);
    }
  }
  if (stem === 'index') found.push(`${path}: a barrel file; the file path is the public name`);
  return found;
}

/** The outside world of a process is read in main.ts alone: everything else can be replayed in a test. */
function processViolations({ path, text }: SourceFile): string[] {
  if (!PRODUCT.includes(rootOf(path)) || path.endsWith('/main.ts') || path === SIGNAL_DOOR) return [];
  const code = withoutComments(text);
  const uses = code.match(/\bprocess\.(argv|env|on|once)\b/g) ?? [];
  return [...new Set(uses)].map((use) => `${path}: ${use} belongs in main.ts`);
}

function importViolations(path: string, specifier: string): string[] {
  const target = resolveImport(path, specifier);
  // The version of the program is in package.json.
  if (target === undefined || target === 'package.json') return [];
  const [from, to] = [rootOf(path), rootOf(target)];
  const wrong = (why: string): string[] => [`${path} imports ${specifier}: ${why}`];
  if (path.startsWith('proto/gen/'))
    return to === 'proto' ? [] : wrong('generated code imports nothing of ours');
  if (from === 'shared')
    return to === 'shared' || to === 'proto' ? [] : wrong('shared imports shared and proto');
  if (from === 'deploy') {
    return ['deploy', 'shared', 'proto'].includes(to)
      ? []
      : wrong('deploy runs programs, it does not import them');
  }
  if (from !== 'agent' && from !== 'aggregator') return [];
  if (to !== from && to !== 'shared' && to !== 'proto')
    return wrong(`${from} imports ${from}, shared and proto`);
  const [ours, theirs] = [stageOf(path), stageOf(target)];
  if (to !== from || ours === undefined || ours === theirs) return [];
  if (path === RULES_COMMANDS.file && target.startsWith(RULES_COMMANDS.folder)) return [];
  if (ours === 'cli') return wrong('the command line imports shared and proto');
  return wrong(
    theirs === undefined ? 'a stage does not import what wires it' : 'a stage does not import its siblings',
  );
}

function doorViolations(files: readonly SourceFile[]): string[] {
  const folders = new Map<string, Set<string>>();
  for (const { path, text } of files) {
    const stage = stageOf(path);
    if (!PRODUCT.includes(rootOf(path)) || stage === undefined) continue;
    for (const specifier of importsOf(text)) {
      const door = DOORS.find(
        (name) => specifier === name || specifier.startsWith(name.endsWith('/') ? name : `${name}/`),
      );
      if (door === undefined) continue;
      if (SPEAKS_TO_OTHERS.some(({ folder, packages }) => path.startsWith(folder) && packages.includes(door)))
        continue;
      const key = `${rootOf(path)} ${door}`;
      const folder = posix.join(rootOf(path), stage);
      folders.set(key, (folders.get(key) ?? new Set()).add(folder));
    }
  }
  return [...folders]
    .filter(([, where]) => where.size > 1)
    .map(([key, where]) => `${key.split(' ')[1]} has more than one door: ${[...where].sort().join(', ')}`);
}

/** What a file imports or re-exports, statically or with import('...'). */
export function importsOf(text: string): string[] {
  const code = withoutComments(text);
  const pattern = /(?:\bfrom|\bimport)\s*\(?\s*['"]([^'"\n]+)['"]/g;
  return [...code.matchAll(pattern)].map((match) => match[1]!);
}

/** The path from the root; undefined for packages. */
function resolveImport(path: string, specifier: string): string | undefined {
  if (specifier.startsWith('#shared/')) return `shared/${specifier.slice('#shared/'.length)}`;
  if (specifier.startsWith('#proto/')) return `proto/gen/${specifier.slice('#proto/'.length)}`;
  return specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined;
}

function rootOf(path: string): string {
  return path.split('/')[0]!;
}

/** The folder right below agent/, aggregator/ or shared/; undefined for the files that wire the stages. */
function stageOf(path: string): string | undefined {
  const parts = path.split('/');
  return parts.length > 2 && !WIRING.includes(parts.slice(0, 2).join('/')) ? parts[1] : undefined;
}

/** Good enough for formatted code: a "//" inside a string loses the rest of its line, which holds no import. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|[^:'"`])\/\/.*$/gm, '$1');
}
