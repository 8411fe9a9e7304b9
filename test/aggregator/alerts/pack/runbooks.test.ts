import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '../../../support/data.ts';
import { PACK_FILE } from './pack-run.ts';

interface Shipped {
  readonly name: string;
  readonly summary?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

const RULES = parse(readFileSync(PACK_FILE, 'utf8')).rules as Shipped[];
const RUNBOOKS = readFileSync(join(ROOT, 'deploy/runbooks/README.md'), 'utf8');

// Lost without it: somebody who is woken and reads what is wrong, and not what to do.
test.each(RULES.map(({ name, summary, annotations }) => ({ name, summary, annotations })))(
  '$name says what to do, and its runbook is there',
  ({ name, summary, annotations }) => {
    expect(summary).toMatch(/^.{3,60}$/);
    expect(annotations?.description).toMatch(/\.$/);
    expect(annotations?.runbook).toBe(`deploy/runbooks/README.md#${name}`);
    const section = RUNBOOKS.split(`\n### ${name}\n`)[1]?.split('\n#')[0];
    expect(section?.trim().split(/\s+/).length).toBeGreaterThan(10);
  },
);

test('no runbook is of a rule that is not there, and all links lead somewhere', () => {
  const names = [...RUNBOOKS.matchAll(/^### (.+)$/gm)].map((match) => match[1]!);
  expect(names.toSorted()).toEqual(RULES.map(({ name }) => name).toSorted());
  for (const [, link] of RUNBOOKS.matchAll(/\]\(#([\w-]+)\)/g)) expect(names).toContain(link);
});
