import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { releasedContractFaults } from '../../../deploy/local/released-contract.ts';
import { ROOT } from '../../support/data.ts';
import { tempDir } from '../../support/temp.ts';

// What a user would lose: a fleet is upgraded node by node, and a contract that breaks takes the nodes in between.
const PROTO = join(ROOT, 'proto');
const INGEST = 'gpufleet/telemetry/v1/ingest.proto';

/** The faults of a copy of proto/ after an edit of the ingest contract. */
async function faultsAfter(edit: (text: string) => string): Promise<string> {
  await using dir = tempDir('proto');
  cpSync(PROTO, dir.path, { recursive: true, filter: (path) => path !== join(PROTO, 'gen') });
  const file = join(dir.path, INGEST);
  const before = readFileSync(file, 'utf8');
  const after = edit(before);
  expect(after, 'the edit did something').not.toBe(before);
  writeFileSync(file, after);
  return releasedContractFaults(dir.path).join('\n');
}

test('the version of package.json has its image: without it the next change is held against nothing', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  expect(readdirSync(join(PROTO, 'released'))).toContain(`${version}.binpb`);
  expect(releasedContractFaults(PROTO)).toEqual([]);
});

test('a field that is removed is found', async () => {
  expect(await faultsAfter((text) => text.replace(/^ {2}string machine_id = 4;\n/m, ''))).toMatch(
    /^0\.2\.0: .*field "4" with name "machine_id" on message "Hello" was deleted/m,
  );
});

test('a number that changes is found', async () => {
  expect(await faultsAfter((text) => text.replace('uint64 sequence = 2;', 'uint64 sequence = 20;'))).toMatch(
    /"2" with name "sequence" on message "Record" was deleted/,
  );
});

test('a type that changes is found', async () => {
  expect(await faultsAfter((text) => text.replace('bytes frame = 2;', 'string frame = 2;'))).toMatch(
    /"frame" on message "Tick" changed type/,
  );
});

test('a field that is added is no fault: the contract may grow', async () => {
  expect(
    await faultsAfter((text) =>
      text.replace('string boot_id = 5;', 'string boot_id = 5;\n  string slot = 500;'),
    ),
  ).toBe('');
});

test('a contract that does not compile, and a folder without images, do not pass for a contract that holds', async () => {
  expect(await faultsAfter((text) => `${text}\nmessage {`)).toMatch(/missing name/);
  await using dir = tempDir('proto');
  cpSync(PROTO, dir.path, { recursive: true });
  rmSync(join(dir.path, 'released', '0.2.0.binpb'));
  expect(() => releasedContractFaults(dir.path)).toThrow(/no image/);
});
