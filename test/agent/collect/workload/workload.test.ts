import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLogger } from '#shared/logging/logger.ts';
import { systemClock } from '#shared/model/clock.ts';
import { SLOT_STATE_NAMES, SlotState } from '#shared/model/slot-state.ts';
import type { Collector, Reading } from '../../../../agent/collect/collector.ts';
import { GpuIdentities } from '../../../../agent/collect/gpu-identity.ts';
import type { Facts, Surroundings } from '../../../../agent/collect/source-kind.ts';
import { kind } from '../../../../agent/collect/workload/kind.ts';
import { decodePodResources } from '../../../../agent/collect/workload/pod-resources.ts';
import { workloadSettings } from '../../../../agent/collect/workload/settings.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { encodeAnswer, FakeKubelet } from './fake-kubelet.ts';

const UUID = 'GPU-8d7690a6-ab17-4a5a-8d76-90a6ab174a5a';
const OTHER = 'GPU-11111111-2222-3333-4444-555555555555';

let host: TempDir;
let facts: Facts;
const made: Collector[] = [];

beforeEach(() => {
  host = tempDir('workload');
  const kept = new Map<string, string>();
  facts = { get: (name) => kept.get(name), set: (name, value) => void kept.set(name, value) };
  new GpuIdentities(facts, systemClock).note({
    pci: '0000:01:00.0',
    uuid: UUID,
    serial: '',
    gpu: '4',
    model: '',
  });
  for (const name of ['proc', 'dev', 'etc']) mkdirSync(join(host.path, name));
  writeFileSync(join(host.path, 'etc', 'passwd'), `me:x:${process.getuid!()}:0::/:/bin/sh\n`);
  const information = join(host.path, 'proc/driver/nvidia/gpus/0000:01:00.0/information');
  mkdirSync(dirname(information), { recursive: true });
  writeFileSync(information, `Model: \t\t NVIDIA H100\nGPU UUID: \t ${UUID}\nDevice Minor: \t 2\n`);
});
afterEach(async () => {
  for (const collector of made.splice(0)) await collector[Symbol.asyncDispose]();
  await host[Symbol.asyncDispose]();
});

function surroundings(): Surroundings {
  const at = (name: string): string => join(host.path, name);
  return {
    node: 'node-a',
    host: { proc: at('proc'), sys: at('sys'), dev: at('dev'), run: at('run'), root: host.path },
    facts,
    clock: systemClock,
    logger: silentLogger,
  } as unknown as Surroundings;
}

function collectorsOf(settings: Readonly<Record<string, unknown>>): readonly Collector[] {
  const collectors = kind.create(v.parse(workloadSettings, settings), surroundings());
  made.push(...collectors);
  return collectors;
}

const detected = () => kind.detect(v.parse(workloadSettings, {}), surroundings());

function shown({ dictionary, states }: Reading): Record<string, string> {
  const jobs = dictionary.series.flatMap(({ name, labels }, slot) =>
    name === 'gpu_job_info'
      ? [
          [
            labels.map(([l, text]) => `${l}=${text}`).join(' '),
            SLOT_STATE_NAMES.get(states[slot] as SlotState)!,
          ],
        ]
      : [],
  );
  return Object.fromEntries(jobs);
}

const changes = ({ events }: Reading): string[] => events.map(({ text }) => text);
const collect = (collector: Collector, ms = 10_000): Promise<Reading> =>
  collector.collect(AbortSignal.timeout(ms));

describe('kubelet', () => {
  let kubelet: FakeKubelet;
  beforeEach(async () => {
    kubelet = await FakeKubelet.start();
  });
  afterEach(async () => {
    await kubelet[Symbol.asyncDispose]();
  });

  function collector(): Collector {
    // The socket is looked up below the host's root.
    const socket = `/sockets/kubelet.sock`;
    symlinkSync(dirname(kubelet.path), join(host.path, 'sockets'));
    const [one] = collectorsOf({ pod_resources_socket: socket, slurm: false, processes: false });
    return one!;
  }

  // Lost without it: whose job a GPU that fails was running.
  test('tells pods, MIG instances, shared GPUs and AMD cards; other devices are not ours', async () => {
    kubelet.containers = [
      {
        namespace: 'ml',
        pod: 'train-0',
        container: 'main',
        devices: { 'nvidia.com/gpu': [UUID], 'rdma/hca': ['1'] },
      },
      {
        namespace: 'ml',
        pod: 'mig-0',
        container: 'a',
        devices: { 'nvidia.com/mig-1g.10gb': ['MIG-4d1a1c5e-0000'] },
      },
      {
        namespace: 'ml',
        pod: 'mig-1',
        container: 'a',
        devices: { 'nvidia.com/mig-2g.20gb': [`MIG-${UUID}/3/0`] },
      },
      {
        namespace: 'ml',
        pod: 'shared',
        container: 'a',
        devices: { 'nvidia.com/gpu.shared': [`${OTHER}::3`] },
      },
      {
        namespace: 'ml',
        pod: 'index',
        container: 'a',
        devices: { 'nvidia.com/gpu': ['4', 'nvidia2', 'what?'] },
      },
      { namespace: 'hpc', pod: 'amd', container: 'a', devices: { 'amd.com/gpu': ['0000:01:00.0'] } },
    ];
    const reading = await collect(collector());
    const known = `gpu=4`;
    expect(shown(reading)).toEqual({
      [`container=main ${known} namespace=ml pod=train-0 uuid=${UUID} workload=kubernetes`]: 'present',
      'container=a mig_uuid=MIG-4d1a1c5e-0000 namespace=ml pod=mig-0 workload=kubernetes': 'present',
      [`container=a ${known} mig_uuid=MIG-${UUID}/3/0 namespace=ml pod=mig-1 uuid=${UUID} workload=kubernetes`]:
        'present',
      [`container=a namespace=ml pod=shared uuid=${OTHER} workload=kubernetes`]: 'present',
      [`container=a ${known} namespace=ml pod=index uuid=${UUID} workload=kubernetes`]: 'present',
      [`container=a ${known} namespace=hpc pod=amd uuid=${UUID} workload=kubernetes`]: 'present',
    });
    expect(reading.rejected).toEqual(new Map([['malformed', 1]]));
    expect(changes(reading)).toContain('container ml/train-0/main began on GPU 4');
    expect(reading.events[0]).toMatchObject({
      type: 'job_change',
      gpuUuid: UUID,
      attributes: { change: 'start' },
    });
  });

  test('that lets a pod go ends its series once, and says so', async () => {
    const one = collector();
    kubelet.containers = [
      { namespace: 'ml', pod: 'a', container: 'm', devices: { 'nvidia.com/gpu': [UUID] } },
    ];
    await collect(one);
    const series = `container=m gpu=4 namespace=ml pod=a uuid=${UUID} workload=kubernetes`;
    kubelet.containers = [];
    const after = await collect(one);
    expect(shown(after)).toEqual({ [series]: 'stale' });
    expect(changes(after)).toEqual(['container ml/a/m ended on GPU 4']);
    let last = after;
    for (let i = 0; i < 4; i++) last = await collect(one);
    expect([shown(last), changes(last)]).toEqual([{}, []]);
  });

  // Lost without it: kubelet's restart ends every job of the node.
  test('that does not answer ends nobody', async () => {
    const one = collector();
    kubelet.containers = [
      { namespace: 'ml', pod: 'a', container: 'm', devices: { 'nvidia.com/gpu': [UUID] } },
    ];
    await collect(one);
    kubelet.hangs = true;
    const hanging = await collect(one, 200);
    expect([Object.values(shown(hanging)), changes(hanging)]).toEqual([['timeout'], []]);
    kubelet.hangs = false;
    const back = await collect(one);
    expect([Object.values(shown(back)), changes(back)]).toEqual([['present'], []]);
  });

  // Lost without it: an update of the agent looks as if all jobs of the fleet began anew.
  test('is remembered over a restart of the agent', async () => {
    kubelet.containers = [
      { namespace: 'ml', pod: 'a', container: 'm', devices: { 'nvidia.com/gpu': [UUID] } },
    ];
    await collect(collector());
    kubelet.containers = [
      { namespace: 'ml', pod: 'b', container: 'm', devices: { 'nvidia.com/gpu': [UUID] } },
    ];
    const [again] = collectorsOf({
      pod_resources_socket: '/sockets/kubelet.sock',
      slurm: false,
      processes: false,
    });
    const reading = await collect(again!);
    expect(changes(reading)).toEqual(['container ml/a/m ended on GPU 4', 'container ml/b/m began on GPU 4']);
    expect(Object.keys(shown(reading))).toHaveLength(1);
  });

  test('whose answer is damaged gives no pod that it did not name', () => {
    const answer = encodeAnswer([
      { namespace: 'ml', pod: 'train-0', container: 'main', devices: { 'nvidia.com/gpu': [UUID, OTHER] } },
      { namespace: 'ml', pod: 'train-1', container: 'main', devices: { 'nvidia.com/gpu': ['0'] } },
    ]);
    let read = 0;
    for (const { bytes, what } of damagedInputs(answer, 5)) {
      try {
        for (const { ids } of decodePodResources(bytes)) expect(ids.length, what).toBeLessThan(10);
        read++;
      } catch (error) {
        expect(error, what).toMatchObject({ code: 'invalid_input' });
      }
    }
    expect(read).toBeGreaterThan(0);
  });
});

test('without a kubelet only processes are looked at', () => {
  expect(collectorsOf({}).map(({ name }) => name)).toEqual(['workload']);
});

describe('processes', () => {
  interface FakeProcess {
    readonly comm: string;
    readonly ppid?: number;
    readonly state?: string;
    readonly files?: readonly string[];
    readonly cmdline?: string;
    readonly environ?: Readonly<Record<string, string>>;
    readonly cgroup?: string;
  }

  function add(pid: number, { comm, ppid = 1, state = 'S', files = [], ...rest }: FakeProcess): void {
    const folder = join(host.path, 'proc', String(pid));
    mkdirSync(join(folder, 'fd'), { recursive: true });
    writeFileSync(join(folder, 'stat'), `${pid} (${comm}) ${state} ${ppid} ${'0 '.repeat(17)}${pid}00 0\n`);
    writeFileSync(join(folder, 'cmdline'), rest.cmdline ?? `${comm}\0`);
    const pairs = Object.entries(rest.environ ?? {}).map(([name, value]) => `${name}=${value}\0`);
    writeFileSync(join(folder, 'environ'), pairs.join(''));
    writeFileSync(join(folder, 'cgroup'), `0::${rest.cgroup ?? '/user.slice/session-1.scope'}\n`);
    for (const [i, file] of files.entries()) symlinkSync(file, join(folder, 'fd', String(i)));
  }

  const GPU = ['/dev/nvidiactl', '/dev/nvidia-uvm', '/dev/nvidia2', '/dev/nvidia2'];

  beforeEach(() => writeFileSync(join(host.path, 'dev', 'nvidia-uvm'), ''));

  test('that compute on a GPU are told, by user, name and control group', async () => {
    add(10, { comm: 'python (x) 3', files: GPU });
    add(11, { comm: 'python (x) 3', files: GPU });
    add(12, { comm: 'nvidia-smi', files: GPU });
    add(13, { comm: 'Xorg', files: ['/dev/nvidia2'] });
    add(14, { comm: 'pod', files: GPU, cgroup: '/kubepods.slice/kubepods-pod1.slice/cri-1.scope' });
    const [one] = collectorsOf({ kubernetes: false, scontrol: false });
    const reading = await collect(one!);
    const common = `gpu=4 process=python (x) 3 user=me uuid=${UUID} workload=process`;
    expect(shown(reading)).toEqual({
      [`cgroup=/user.slice/session-1.scope ${common}`]: 'present',
      [`cgroup=/kubepods.slice/kubepods-pod1.slice/cri-1.scope ${common.replace('python (x) 3', 'pod')}`]:
        'present',
    });
    expect(changes(reading)).toContain('process python (x) 3 of me began on GPU 4');
  });

  // As root only: a step is a process of root.
  test.skipIf(process.getuid!() !== 0)(
    'of a Slurm job are the job, also where they do not touch a GPU',
    async () => {
      add(20, { comm: 'slurmstepd', cmdline: 'slurmstepd: [42.batch]' });
      add(21, {
        comm: 'bash',
        ppid: 20,
        environ: {
          SLURM_JOB_ID: '42',
          SLURM_JOB_GPUS: '4',
          SLURM_JOB_NAME: 'train',
          SLURM_JOB_USER: 'alice',
          CUDA_VISIBLE_DEVICES: '0',
        },
      });
      add(22, { comm: 'python', ppid: 21, files: GPU });
      const [one] = collectorsOf({ kubernetes: false, scontrol: false });
      const reading = await collect(one!);
      expect(shown(reading)).toEqual({
        [`gpu=4 job_name=train slurm_job_id=42 user=alice uuid=${UUID} workload=slurm`]: 'present',
      });
      expect(changes(reading)).toEqual(['Slurm job 42 (train) of alice began on GPU 4']);
    },
  );

  // Lost without it: a driver that hangs takes the agent's file threads with it.
  test('that are stuck in the kernel are not asked for their environment', async () => {
    add(20, { comm: 'slurmstepd', cmdline: 'slurmstepd: [42.batch]' });
    add(21, { comm: 'bash', ppid: 20, state: 'D', environ: { SLURM_JOB_ID: '42', SLURM_JOB_GPUS: '4' } });
    const [one] = collectorsOf({ kubernetes: false, scontrol: false });
    expect(shown(await collect(one!))).toEqual({});
  });

  test('are not looked at where the host has no GPU devices, and detection finds nothing', async () => {
    add(10, { comm: 'python', files: GPU });
    rmSync(join(host.path, 'dev', 'nvidia-uvm'));
    const [one] = collectorsOf({ kubernetes: false, scontrol: false });
    expect(shown(await collect(one!))).toEqual({});
    expect((await detected()).found).toBe(false);
    writeFileSync(join(host.path, 'dev', 'nvidia0'), '');
    expect(await detected()).toMatchObject({ found: true, what: 'processes on GPUs' });
  });

  test('without a /proc are a failed read', async () => {
    const [one] = collectorsOf({ kubernetes: false, scontrol: false });
    await host[Symbol.asyncDispose]();
    const reading = await collect(one!);
    const up = reading.dictionary.series.findIndex(({ name }) => name === 'up');
    expect(reading.values[up]).toBe(0);
    expect(reading.states[up]).toBe(SlotState.Present);
  });
});
