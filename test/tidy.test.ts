import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from './support/data.ts';
import { importsOf, type SourceFile, violations } from './support/directions.ts';

const FOLDERS = ['proto/gen', 'shared', 'agent', 'aggregator', 'deploy', 'benchmarks', 'test'];

function sources(): SourceFile[] {
  return FOLDERS.flatMap((folder) => {
    try {
      return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => /\.(ts|mjs)$/.test(name))
        .map((name) => `${folder}/${name}`)
        .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    }
  });
}

// Lost without it: the agent grows the aggregator's dependencies, and swapping a store touches the whole tree.
test('every import of the tree goes in the agreed direction', () => {
  const files = sources();
  expect(files.length).toBeGreaterThan(20);
  expect(violations(files)).toEqual([]);
});

describe('the rules catch', () => {
  const one = (path: string, text: string): string[] => violations([{ path, text }]);

  test.each([
    ['generated code that imports ours', 'proto/gen/a_pb.ts', "import { x } from '../../shared/x.ts';"],
    ['shared that imports the agent', 'shared/model/a.ts', "import { x } from '../../agent/x.ts';"],
    [
      'the agent that imports the aggregator',
      'agent/uplink/a.ts',
      "import type { X } from '../../aggregator/x.ts';",
    ],
    ['the aggregator that imports the agent', 'aggregator/main.ts', "export { x } from '../agent/agent.ts';"],
    ['a stage that imports its sibling', 'agent/uplink/a.ts', "const x = await import('../buffer/b.ts');"],
    ['a stage that imports the wiring', 'aggregator/store/a.ts', "import { c } from '../config.ts';"],
    ['a command line that reaches into the server', 'aggregator/cli/a.ts', "import '../query/b.ts';"],
    [
      'a product file that imports test support',
      'shared/model/a.ts',
      "import { t } from '../../test/support/t.ts';",
    ],
    ['deploy that imports a program', 'deploy/local/a.ts', "import { a } from '../../agent/agent.ts';"],
    ['an environment read away from main.ts', 'agent/collect/a.ts', 'const home = process.env.HOME;'],
    ['a signal handler away from main.ts', 'aggregator/aggregator.ts', "process.once('SIGTERM', stop);"],
    ['an empty name', 'shared/utils/a.ts', ''],
    ['an empty name with a prefix', 'shared/model/time-helpers.ts', ''],
    ['a barrel', 'agent/collect/index.ts', ''],
  ])('%s', (_name, path, text) => {
    expect(one(path, text)).toHaveLength(1);
  });

  test('a package with two doors, and not one with a door each in agent and aggregator', () => {
    const file = (path: string): SourceFile => ({
      path,
      text: "import { connect } from '@nats-io/transport-node';",
    });
    expect(violations([file('aggregator/alerts/bus.ts'), file('aggregator/route/members.ts')])).toHaveLength(
      1,
    );
    expect(
      violations([file('aggregator/alerts/bus.ts'), file('aggregator/alerts/b.ts'), file('agent/x/y.ts')]),
    ).toEqual([]);
  });

  test('nothing in what is allowed', () => {
    expect(
      one('agent/agent.ts', "import { b } from './buffer/b.ts';\nimport { u } from './uplink/u.ts';"),
    ).toEqual([]);
    expect(one('agent/main.ts', 'const argv = process.argv;')).toEqual([]);
    expect(
      one('agent/collect/nvidia/a.ts', "import { C } from '../collector.ts';\nimport '#shared/model/x.ts';"),
    ).toEqual([]);
    expect(one('agent/collect/a.ts', '// process.env is not read here\n/* from "../buffer/b.ts" */')).toEqual(
      [],
    );
  });
});

test('imports are found in every form that the tree uses', () => {
  const text = `import type { A } from './a.ts';\nimport {\n  b,\n} from "./b.ts";\nexport * from './c.ts';\nimport './d.ts';
  const e = await import('./e.ts'); // import './f.ts'`;
  expect(importsOf(text)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts']);
});
