import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import type { Executor } from '../../../../../aggregator/alerts/actions/executor.ts';
import { EXECUTOR_KINDS } from '../../../../../aggregator/alerts/actions/executors/registry.ts';
import { tempDir } from '../../../../support/temp.ts';
import { FakeKubernetes } from './fake-kubernetes.ts';
import { contextOf, depsOf, FakeAgents, FakeMarks, inTime, TARGET } from './fixtures.ts';
import { HookServer } from './hook-server.ts';

/** An executor, and the other side that it acts on. */
interface Rig extends AsyncDisposable {
  readonly executor: Executor;
  /** What has been changed there, in any form that two looks compare. */
  changes(): unknown;
  /** From now on the other side takes what it is asked, and never answers. */
  hang(): Promise<void> | void;
}

async function open(kind: string, settings: unknown, deps = depsOf()): Promise<Executor> {
  const { schema, open } = EXECUTOR_KINDS[kind]!;
  return await open(v.parse(schema, settings), deps);
}

const never = () => new Promise<never>(() => {});

async function markRig(): Promise<Rig> {
  const marks = new FakeMarks();
  const executor = await open('mark', 'degraded', depsOf({ marks }));
  return {
    executor,
    changes: () => marks.changes,
    hang() {
      marks.set = never;
    },
    [Symbol.asyncDispose]: () => executor[Symbol.asyncDispose](),
  };
}

async function commandRig(): Promise<Rig> {
  const agents = new FakeAgents();
  const executor = await open('command', { name: 'reset-gpu' }, depsOf({ agents }));
  return {
    executor,
    // As the agent does, by the id.
    changes: () => new Set(agents.asked.map(({ id }) => id)),
    hang() {
      agents.answer = never;
    },
    [Symbol.asyncDispose]: () => executor[Symbol.asyncDispose](),
  };
}

function hookRig(kind: 'webhook' | 'checkpoint', settings: object) {
  return async (): Promise<Rig> => {
    const hook = await HookServer.start();
    hook.answer = '{"done": true}';
    const executor = await open(kind, { url: hook.url, ...settings });
    return {
      executor,
      // As whoever is at the other end does, by the key.
      changes: () => new Set(hook.calls.map(({ headers }) => headers['idempotency-key'])),
      hang() {
        hook.isSilent = true;
      },
      async [Symbol.asyncDispose]() {
        await executor[Symbol.asyncDispose]();
        await hook[Symbol.asyncDispose]();
      },
    };
  };
}

async function kubernetesRig(): Promise<Rig> {
  const fake = await FakeKubernetes.start();
  const dir = tempDir('kubernetes');
  const token = join(dir.path, 'token');
  await writeFile(token, fake.token);
  const executor = await open('kubernetes', { api: fake.url, ca_file: fake.authority.ca, token_file: token });
  return {
    executor,
    changes: () => fake.changes,
    hang() {
      fake.isHanging = true;
    },
    async [Symbol.asyncDispose]() {
      await executor[Symbol.asyncDispose]();
      await fake[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

/** scontrol as a script over a file with the node's line; the real one is in slurm.test.ts. */
async function slurmRig(): Promise<Rig> {
  const dir = tempDir('scontrol');
  const [node, updates, command] = ['node', 'updates', 'scontrol'].map((name) => join(dir.path, name));
  await writeFile(node!, 'NodeName=node-a State=IDLE\n');
  await writeFile(updates!, '');
  const script = `#!/bin/sh
[ -e ${dir.path}/hang ] && exec sleep 600
case "$*" in
  *--json*) echo "unrecognized option '--json'" >&2; exit 1;;
  show*) cat ${node};;
  *State=DRAIN*) echo x >> ${updates}; echo "NodeName=node-a State=IDLE+DRAIN $4 [root@2026-01-01T00:00:00]" > ${node};;
  *State=RESUME*) echo x >> ${updates}; echo "NodeName=node-a State=IDLE" > ${node};;
esac
`;
  await writeFile(command!, script);
  await chmod(command!, 0o755);
  const executor = await open('slurm', { command });
  return {
    executor,
    changes: () => readFile(updates!, 'utf8'),
    hang: () => writeFile(join(dir.path, 'hang'), ''),
    async [Symbol.asyncDispose]() {
      await executor[Symbol.asyncDispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

const RIGS: Readonly<Record<string, () => Promise<Rig>>> = {
  mark: markRig,
  checkpoint: hookRig('checkpoint', {}),
  slurm: slurmRig,
  kubernetes: kubernetesRig,
  webhook: hookRig('webhook', { undo: true }),
  command: commandRig,
};

test('every kind is in this suite', () => {
  expect(Object.keys(RIGS).sort()).toEqual(Object.keys(EXECUTOR_KINDS).sort());
});

describe.each(Object.keys(RIGS))('%s', (kind) => {
  // Lost without it: a dry run, which people take for harmless, drains a node.
  test('a preview says something and changes nothing', async () => {
    await using rig = await RIGS[kind]!();
    const before = await rig.changes();
    const words = await rig.executor.preview(TARGET, contextOf(), inTime());
    expect(words).toMatch(/would .*node/);
    expect(words.length).toBeLessThanOrEqual(500);
    expect(await rig.changes()).toEqual(before);
  });

  // Lost without it: an aggregator that crashed between doing and writing down does it twice, or takes it for another's.
  test('a step that is done again is done, changes nothing more, and can still be undone', async () => {
    await using rig = await RIGS[kind]!();
    const first = await rig.executor.execute(TARGET, contextOf(), inTime());
    expect(first.outcome).toBe('done');
    const changed = await rig.changes();
    const second = await rig.executor.execute(TARGET, contextOf(), inTime());
    expect(second.outcome).toBe('done');
    expect(await rig.changes()).toEqual(changed);
    const [undo, again] = [first, second].map((one) => ('undo' in one ? one.undo : undefined));
    expect(again === undefined).toBe(undo === undefined);
    if (again === undefined) return;
    expect(await rig.executor.undo(TARGET, contextOf(), again, inTime())).toMatchObject({ outcome: 'done' });
    const undone = await rig.changes();
    expect((await rig.executor.undo(TARGET, contextOf(), again, inTime())).outcome).toMatch(
      /^(done|already)$/,
    );
    expect(await rig.changes()).toEqual(undone);
  });

  // Lost without it: one API that hangs holds every other action.
  test('the deadline ends each call, whatever the other side does', async () => {
    await using rig = await RIGS[kind]!();
    await rig.hang();
    const soon = (): AbortSignal => AbortSignal.timeout(200);
    expect((await rig.executor.execute(TARGET, contextOf(), soon())).outcome).toBe('retry');
    expect(await rig.executor.preview(TARGET, contextOf(), soon())).not.toBe('');
    expect((await rig.executor.execute(TARGET, contextOf(), AbortSignal.abort())).outcome).toBe('retry');
  });
});
