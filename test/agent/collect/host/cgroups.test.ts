import { expect, test } from 'vitest';
import type { Collector } from '../../../../agent/collect/collector.ts';
import { defaultSettings } from '../../../../agent/collect/collector-settings.ts';
import { cgroupIdentity } from '../../../../agent/collect/host/cgroup-identity.ts';
import { createHostCollectors } from '../../../../agent/collect/host/collector.ts';
import { inventions } from '../host-files/damage-oracle.ts';
import { FakeHost, patient, shown } from '../host-files/fake-host.ts';

const ID = '0123456789abcdef'.repeat(4);
const POD = '8f0d1b2c-1111-2222-3333-444455556666';
const POD_SLICE = `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${POD.replaceAll('-', '_')}.slice`;

// Lost without it: usage that belongs to nobody, because the runtime names its cgroups in another way.
test.each([
  ['/system.slice', undefined, { cgroup: '/system.slice' }],
  [`/system.slice/docker-${ID}.scope`, undefined, { container_id: ID }],
  [`/docker/${ID}`, undefined, { container_id: ID }],
  [POD_SLICE, undefined, { pod_uid: POD }],
  [`${POD_SLICE}/cri-containerd-${ID}.scope`, POD, { container_id: ID, pod_uid: POD }],
  [`${POD_SLICE}/crio-${ID}.scope`, POD, { container_id: ID, pod_uid: POD }],
  [`/kubepods/besteffort/pod${POD}`, undefined, { pod_uid: POD }],
  [`/kubepods/besteffort/pod${POD}/${ID}`, POD, { container_id: ID, pod_uid: POD }],
  [
    `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${POD.replaceAll('-', '_')}.slice`,
    undefined,
    { pod_uid: POD },
  ],
  [`/machine.slice/libpod-${ID}.scope`, undefined, { container_id: ID }],
  ['/system.slice/slurmstepd.scope/job_4711', undefined, { slurm_job_id: '4711' }],
  ['/system.slice/gpu01_slurmstepd.scope/job_4712', undefined, { slurm_job_id: '4712' }],
  [`${POD_SLICE}/crio-conmon-${ID}.scope`, POD, undefined],
  ['/system.slice/slurmstepd.scope/system', undefined, undefined],
  ['/system.slice/ssh.service', undefined, undefined],
  ['/elsewhere/job_4711', undefined, undefined],
])('%s', (path, podUid, labels) => {
  const found = cgroupIdentity(path, podUid).labels;
  expect(found && Object.fromEntries(found)).toEqual(labels);
});

const files = (path: string, current: number, max = 'max'): Record<string, string> => ({
  [`sys/fs/cgroup${path}/cpu.stat`]: 'usage_usec 12345678\nuser_usec 1\nsystem_usec 2\nthrottled_usec 500000',
  [`sys/fs/cgroup${path}/memory.current`]: String(current),
  [`sys/fs/cgroup${path}/memory.max`]: max,
  [`sys/fs/cgroup${path}/memory.stat`]: 'anon 700\nfile 300\ninactive_anon 5\ninactive_file 200',
  [`sys/fs/cgroup${path}/memory.events`]: 'low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0',
});

async function withCgroups(
  host: FakeHost,
  run: (collector: Collector) => Promise<void>,
  max = 256,
): Promise<void> {
  const all = createHostCollectors({ ...defaultSettings('host'), max_cgroups: max }, host.surroundings);
  await run(all.find(({ name }) => name === 'cgroups')!);
  for (const collector of all) await collector[Symbol.asyncDispose]();
}

// Lost without it: which pod or job eats the CPUs and memory of a GPU node.
test('CPU, memory, limit and OOM kills of a container', async () => {
  await using host = new FakeHost(files(`${POD_SLICE}/cri-containerd-${ID}.scope`, 1000, '4096'));
  await withCgroups(host, async (collector) => {
    const reading = await collector.collect(patient);
    const labels = `{container_id="${ID}",pod_uid="${POD}"}`;
    expect(shown(reading)).toMatchObject({
      [`container_cpu_usage_seconds_total${labels}`]: 12.345678,
      [`container_cpu_cfs_throttled_seconds_total${labels}`]: 0.5,
      [`container_memory_usage_bytes${labels}`]: 1000,
      [`container_memory_working_set_bytes${labels}`]: 800,
      [`container_spec_memory_limit_bytes${labels}`]: 4096,
      [`container_oom_events_total${labels}`]: 2,
      'container_memory_usage_bytes{cgroup="/kubepods.slice"}': 'Absent',
    });
  });
});

// Lost without it: "no limit" shown as a limit of 0.
test('no limit is no value, and not a fault', async () => {
  await using host = new FakeHost(files('/user.slice', 1000));
  await withCgroups(host, async (collector) => {
    const reading = await collector.collect(patient);
    expect(shown(reading)['container_spec_memory_limit_bytes{cgroup="/user.slice"}']).toBe('Absent');
    expect([...reading.rejected]).toEqual([]);
  });
});

// Lost without it: a node with a thousand containers floods the store, or drops them without a word.
test('over the limit cgroups are left out, counted and told, slices first of all', async () => {
  await using host = new FakeHost({
    ...files('/system.slice', 1000),
    ...files(`/system.slice/docker-${ID}.scope`, 1000),
    ...files(`/system.slice/docker-${ID.replace('0', 'a')}.scope`, 1000),
  });
  await withCgroups(
    host,
    async (collector) => {
      const reading = await collector.collect(patient);
      expect(Object.keys(shown(reading))).toHaveLength(12);
      expect(shown(reading)['container_memory_usage_bytes{cgroup="/system.slice"}']).toBe(1000);
      expect(reading.rejected.get('series_limit')).toBe(6);
      expect(collector.describe()).toBe('2 cgroups (1 more are over the limit)');
    },
    2,
  );
});

// Lost without it: containers that start after the agent, and descriptors of all that ever were.
test('a container that starts is found, one that ended leaves', async () => {
  await using host = new FakeHost(files('/system.slice', 1000));
  await withCgroups(host, async (collector) => {
    await collector.collect(patient);
    const path = `/system.slice/docker-${ID}.scope`;
    for (const [file, content] of Object.entries(files(path, 77))) host.write(file, content);
    await collector.collect(patient);
    const key = `container_memory_usage_bytes{container_id="${ID}"}`;
    expect(shown(await collector.collect(patient))[key]).toBe(77);
    host.remove(`sys/fs/cgroup${path}`);
    for (let i = 0; i < 2; i++) await collector.collect(patient);
    expect(shown(await collector.collect(patient))[key]).not.toBe(77);
    for (let i = 0; i < 6; i++) await collector.collect(patient);
    expect(shown(await collector.collect(patient))[key]).toBeUndefined();
  });
});

test.each(['cpu.stat', 'memory.current', 'memory.stat', 'memory.max', 'memory.events'])(
  '%s damaged in 220 ways gives no value that it does not have',
  async (name) => {
    const content = files('/user.slice', 123456, '4096000');
    await using host = new FakeHost(content);
    await withCgroups(host, async (collector) => {
      const path = `sys/fs/cgroup/user.slice/${name}`;
      expect(await inventions(host, collector, path, Buffer.from(`${content[path]}\n`))).toEqual([]);
    });
  },
  60_000,
);
