import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { GpuIdentities } from '../../../../agent/collect/gpu-identity.ts';
import { kind } from '../../../../agent/collect/kernel-log/kind.ts';
import { kernelLogSettings } from '../../../../agent/collect/kernel-log/settings.ts';
import type { Surroundings } from '../../../../agent/collect/source-kind.ts';
import { silentLogger } from '../../../../shared/logging/logger.ts';
import { forever, KernelNode, readingOf, XID_79 } from './kernel-node.ts';

const settings = (given: object = {}) => v.parse(kernelLogSettings, given);

function surroundings(node: KernelNode): Surroundings {
  return {
    node: 'n1',
    intervalMs: 1000,
    host: node.host,
    directory: node.host.run,
    facts: { get: (name) => node.facts.get(name), set: (name, value) => node.facts.set(name, value) },
    clock: node.clock,
    random: () => 0,
    logger: silentLogger,
  };
}

// Lost without it: an agent that looks for what the node has leaves out the source that speaks when no other does.
test('finds /dev/kmsg, else journald, else says what to do', async () => {
  await using node = new KernelNode();
  const all = surroundings(node);
  expect(await kind.detect(settings(), all)).toEqual({ found: true, what: join(node.host.dev, 'kmsg') });
  rmSync(join(node.host.dev, 'kmsg'));
  expect(await kind.detect(settings(), all)).toMatchObject({
    found: false,
    hint: expect.stringContaining('CAP_SYSLOG'),
  });
  const journalctl = join(node.host.root, 'usr/bin/journalctl');
  node.write(journalctl, '#!/bin/sh\n');
  chmodSync(journalctl, 0o755);
  expect(await kind.detect(settings(), all)).toMatchObject({
    found: true,
    what: expect.stringContaining('journald'),
  });
  expect(await kind.detect(settings({ from: 'kmsg' }), all)).toMatchObject({ found: false });
});

test('makes one collector with its own interval, whatever that of the node is', async () => {
  await using node = new KernelNode();
  const [collector, ...others] = kind.create(settings(), surroundings(node));
  expect(others).toEqual([]);
  expect(collector).toMatchObject({ name: 'kernel-log', intervalMs: 250, holdsDevice: false });
  node.log(XID_79);
  expect((await collector!.collect(forever)).events).toHaveLength(1);
  await collector![Symbol.asyncDispose]();
});

// Lost without it: a GPU that fell off the bus before the agent's restart is an address, and nobody knows whose.
test('names a GPU as the other sources know it', async () => {
  await using node = new KernelNode();
  const all = surroundings(node);
  const gpu = { pci: '00000000:91:00.0', uuid: 'GPU-a', serial: '7', gpu: '5', model: 'H100' };
  new GpuIdentities(all.facts, all.clock).note(gpu);
  const [collector] = kind.create(settings(), all);
  node.log(XID_79);
  const reading = await collector!.collect(forever);
  expect(reading.events).toMatchObject([{ gpu: '5', gpuUuid: 'GPU-a' }]);
  expect(readingOf(reading, 'gpu_xid_errors_total', 'model', 'H100')).toBe(1);
  await collector![Symbol.asyncDispose]();
});

// Lost without it: a wrong verdicts file is found out when the Xid comes.
test('refuses a verdicts file that is wrong before it reads anything', async () => {
  await using node = new KernelNode();
  const path = join(node.host.dev, 'verdicts.yaml');
  writeFileSync(path, 'xid:\n  63: { severity: awful }\n');
  expect(() => kind.create(settings({ verdicts: path }), surroundings(node))).toThrow(
    'line 2, xid.63.severity',
  );
});
