import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadAgentConfig } from '../../agent/config.ts';
import { planReload, takenOn } from '../../agent/reload.ts';
import { tempDir } from '../support/temp.ts';

async function configOf(yaml: string) {
  await using dir = tempDir('reload');
  const file = join(dir.path, 'agent.yaml');
  await writeFile(file, yaml);
  return await loadAgentConfig(file, {});
}

const HASH = '$scrypt$ln=14,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
const BEFORE = 'collectors: { simulated: { gpus: 8, model: H100 } }\n';

const changes: readonly (readonly [yaml: string, live: string[], restart: string[]])[] = [
  [BEFORE, [], []],
  ['collectors: { simulated: { model: H100, gpus: 8 } }', [], []],
  ['collectors: { simulated: { gpus: 4, model: H100 } }', ['collectors'], []],
  [`${BEFORE}collection_interval: 1s`, ['collection_interval'], []],
  [`${BEFORE}log_level: debug`, ['log_level'], []],
  [`${BEFORE}expected_gpus: 8`, ['expected_gpus'], []],
  [`${BEFORE}exporter: { users: { prometheus: "${HASH}" } }`, ['exporter.users'], []],
  [`${BEFORE}exporter: { listen: "127.0.0.1:9999" }`, [], ['exporter.listen']],
  [`${BEFORE}exporter: { tls: { cert: a, key: b } }`, [], ['exporter.tls']],
  [
    `${BEFORE}cluster: other\nexternal_labels: { a: b }\naggregators: ["a:1"]`,
    [],
    ['cluster', 'external_labels', 'aggregators'],
  ],
  [
    `${BEFORE}data_dir: /elsewhere\nbuffer: { max_age: 1h }\ntoken_file: /t`,
    [],
    ['data_dir', 'token_file', 'buffer'],
  ],
  ['collectors: { simulated: { gpus: 8, model: H100, nodes: 3 } }', [], ['collectors.simulated.nodes']],
];

// Lost without it: a reload that changes the identity of a running stream, or that quietly leaves a change out.
test.each(changes)('%s', async (yaml, live, restart) => {
  const [before, after] = [await configOf(BEFORE), await configOf(yaml)];
  const plan = planReload(before, after);
  expect([[...plan.live], [...plan.restart].sort()]).toEqual([live, restart.toSorted()]);
  // What it did not take on is still named at the next reload; what it took on is not.
  const next = planReload(takenOn(before, after, plan), after);
  expect([[...next.live], [...next.restart].sort()]).toEqual([[], restart.toSorted()]);
});

test('what is taken on has the new values, and all else the old ones', async () => {
  const before = await configOf(BEFORE);
  const after = await configOf(
    'collectors: { simulated: { gpus: 4 } }\ncluster: other\nexporter: { listen: "127.0.0.1:9999", users: {} }',
  );
  const taken = takenOn(before, after, planReload(before, after));
  expect(taken.collectors).toEqual(after.collectors);
  expect([taken.cluster, taken.exporter.listen]).toEqual([before.cluster, before.exporter.listen]);
});
