import { describe, expect, test } from 'vitest';
import { systemClock } from '#shared/model/clock.ts';
import { defaultSettings } from '../../../../agent/collect/collector-settings.ts';
import { createNetworkCollector } from '../../../../agent/collect/network/collector.ts';
import { kind } from '../../../../agent/collect/network/kind.ts';
import { inventions } from '../host-files/damage-oracle.ts';
import { FakeHost, patient, shown } from '../host-files/fake-host.ts';
import { networkOf, port, statePath } from './ib-node.ts';

const NET_DEV = [
  'Inter-|   Receive                                                |  Transmit',
  ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
  '    lo: 2751 155 0 0 0 0 0 0 2751 155 0 0 0 0 0 0',
  '  eth0: 71446810 48341 11 22 33 44 55 66 2893712 37265 77 88 99 111 122 133',
  '  eth1: 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5',
].join('\n');
const NIC = 'sys/devices/pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0/0000:18:00.0';
const GPU = 'sys/devices/pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:01.0/0000:1b:00.0';
const FAR_GPU = 'sys/devices/pci0000:85/0000:85:01.0/0000:86:00.0';

function ethernet(): FakeHost {
  const host = new FakeHost({
    'proc/net/dev': NET_DEV,
    'sys/class/net/eth0/operstate': 'up',
    'sys/class/net/eth0/speed': '100000',
    'sys/class/net/eth0/carrier_changes': '2',
    'sys/class/net/lo/operstate': 'unknown',
    'sys/class/net/br0/operstate': 'up',
    'sys/class/net/br0/carrier_changes': '1',
    [`${NIC}/numa_node`]: '1',
    [`${NIC}/current_link_speed`]: '32.0 GT/s PCIe',
    [`${NIC}/current_link_width`]: '16',
    [`${NIC}/max_link_speed`]: '32.0 GT/s PCIe',
    [`${NIC}/max_link_width`]: '16',
  });
  host.link('sys/class/net/eth0/device', NIC);
  return host;
}

describe('Ethernet', () => {
  // Lost without it: traffic and errors under the wrong name or in the wrong column.
  test('under the names that the field knows, and virtual interfaces only where they are asked for', async () => {
    await using host = ethernet();
    await using collector = networkOf(host);
    expect(shown(await collector.collect(patient))).toMatchObject({
      'node_network_up{device="eth0"}': 1,
      'node_network_speed_bytes{device="eth0"}': 12.5e9,
      'node_network_carrier_changes_total{device="eth0"}': 2,
      'node_network_receive_bytes_total{device="eth0"}': 71446810,
      'node_network_receive_drop_total{device="eth0"}': 22,
      'node_network_receive_frame_total{device="eth0"}': 44,
      'node_network_transmit_bytes_total{device="eth0"}': 2893712,
      'node_network_transmit_carrier_total{device="eth0"}': 122,
      'nic_info{device="eth0",numa_node="1",pci_bus_id="0000:18:00.0"}': 1,
    });
    await using all = networkOf(host, { virtual_interfaces: true });
    const devices = new Set(
      Object.keys(shown(await all.collect(patient))).map((key) => /device="(\w+)"/.exec(key)?.[1]),
    );
    expect(devices).toContain('br0');
    expect(devices).not.toContain('lo');
  });

  // Lost without it: a speed of -1, or that of a cable that is not plugged in.
  test('a speed that is not known is NotSupported; without a link there is none', async () => {
    await using host = ethernet();
    await using collector = networkOf(host);
    host.write('sys/class/net/eth0/speed', '-1');
    expect(shown(await collector.collect(patient))['node_network_speed_bytes{device="eth0"}']).toBe(
      'NotSupported',
    );
    host.write('sys/class/net/eth0/operstate', 'down');
    host.write('sys/class/net/eth0/speed', '1000');
    expect(shown(await collector.collect(patient))['node_network_speed_bytes{device="eth0"}']).toBe('Absent');
  });
});

describe('InfiniBand', () => {
  // Lost without it: 0 errors reported by a port that cannot count them.
  test('counters that the port does not have are NotSupported', async () => {
    await using host = new FakeHost(
      port('mlx5_0', {
        'counters/symbol_error': 'N/A (no PMA)',
        'hw_counters/out_of_sequence': 'unsupported',
      }),
    );
    await using collector = networkOf(host);
    const reading = await collector.collect(patient);
    expect(shown(reading)).toMatchObject({
      'ib_port_errors_total{device="mlx5_0",kind="symbol_error",port="1"}': 'NotSupported',
      'ib_hw_counter_total{counter="out_of_sequence",device="mlx5_0",port="1"}': 'NotSupported',
      'ib_link_downed_total{device="mlx5_0",port="1"}': 0,
    });
    expect([...reading.rejected]).toEqual([]);
    expect(Object.keys(shown(reading)).filter((key) => /rx_write_requests|lifespan/.test(key))).toEqual([]);
  });

  // Lost without it: the moment at which a training job lost its network.
  test('a port that goes down, comes back, slows down or vanishes is told, also over a restart of the agent', async () => {
    await using host = new FakeHost(port('mlx5_0'));
    const events = async (collector = first): Promise<unknown[]> =>
      (await collector.collect(patient)).events.map(({ type, attributes }) => [
        type,
        attributes.device,
        attributes.over ?? attributes.gone,
      ]);
    const first = networkOf(host);
    expect(await events()).toEqual([]);
    host.write(`${statePath('mlx5_0')}/rate`, '200 Gb/sec (2X NDR)');
    expect(await events()).toEqual([['link_degraded', 'mlx5_0', 'false']]);
    expect(await events()).toEqual([]);
    host.write(`${statePath('mlx5_0')}/rate`, '400 Gb/sec (4X NDR)');
    expect(await events()).toEqual([['link_degraded', 'mlx5_0', 'true']]);
    host.write(`${statePath('mlx5_0')}/state`, '1: DOWN');
    await first[Symbol.asyncDispose]();
    await using second = networkOf(host);
    expect(await events(second)).toEqual([['link_down', 'mlx5_0', undefined]]);
    host.write(`${statePath('mlx5_0')}/state`, '4: ACTIVE');
    expect(await events(second)).toEqual([['link_up', 'mlx5_0', undefined]]);
    host.remove('sys/class/infiniband/mlx5_0');
    expect(await events(second)).toEqual([['link_down', 'mlx5_0', 'true']]);
    expect(await events(second)).toEqual([]);
  });

  // Lost without it: an alert for each port that was never plugged in.
  test('a port that was down at first is no event', async () => {
    await using host = new FakeHost(port('mlx5_3', { state: '1: DOWN', phys_state: '3: Disabled' }));
    await using collector = networkOf(host);
    const reading = await collector.collect(patient);
    expect(reading.events).toEqual([]);
    expect(shown(reading)['ib_port_state{device="mlx5_3",port="1"}']).toBe(1);
  });

  // Lost without it: links that flap between two reads, which no state shows.
  test('three downs within the window are one flap, whether seen or counted; older ones do not count', async () => {
    await using host = new FakeHost(port('mlx5_0'));
    await using collector = networkOf(host);
    const downed = async (count: number): Promise<string[]> => {
      host.write(`${statePath('mlx5_0')}/counters/link_downed`, String(count));
      return (await collector.collect(patient)).events.map(
        ({ type, attributes }) => `${type} ${attributes.count}`,
      );
    };
    await downed(7);
    expect(await downed(9)).toEqual([]);
    host.nowMs += 13 * 3_600_000;
    expect(await downed(10)).toEqual([]);
    host.nowMs += 60_000;
    expect(await downed(12)).toEqual(['link_flap 3']);
    expect(await downed(12)).toEqual([]);
    // A driver that was loaded anew counts from zero.
    expect(await downed(0)).toEqual([]);
    expect(await downed(200)).toEqual(['link_flap 3']);
  });
});

describe('PCIe', () => {
  // Lost without it: a card at half its speed, and why one GPU of eight has a slow network.
  test('a card that lost lanes is told once, also over a restart; its slot limits what it could have', async () => {
    await using host = ethernet();
    host.write(`${NIC}/current_link_width`, '8');
    const lost = [
      {
        type: 'link_degraded',
        attributes: { device: 'eth0', what: 'PCIe lanes', was: '16', now: '8', over: 'false' },
      },
    ];
    const first = networkOf(host);
    const reading = await first.collect(patient);
    expect(reading.events).toMatchObject(lost);
    expect(shown(reading)['nic_pcie_link_width{pci_bus_id="0000:18:00.0"}']).toBe(8);
    await first[Symbol.asyncDispose]();
    host.write(`${NIC}/../max_link_width`, '8');
    await using second = networkOf(host);
    const again = await second.collect(patient);
    expect(again.events).toMatchObject([{ attributes: { over: 'true' } }]);
    expect(shown(again)['nic_pcie_link_width_max{pci_bus_id="0000:18:00.0"}']).toBe(8);
  });

  test('a function that does not know its link, or fell off the bus, has no width', async () => {
    await using host = ethernet();
    host.write(`${NIC}/current_link_speed`, 'Unknown');
    host.write(`${NIC}/current_link_width`, '63');
    await using collector = networkOf(host);
    const reading = await collector.collect(patient);
    expect(shown(reading)).toMatchObject({
      'nic_pcie_link_generation{pci_bus_id="0000:18:00.0"}': 'NotSupported',
      'nic_pcie_link_width{pci_bus_id="0000:18:00.0"}': 'NotSupported',
    });
    expect(reading.events).toEqual([]);
  });

  // Lost without it: which card a GPU should use, and whose switch a fault is in.
  test('GPUs on the same switch are told, those elsewhere are not', async () => {
    await using host = ethernet();
    host.link('sys/bus/pci/drivers/nvidia/0000:1b:00.0', GPU);
    host.link('sys/bus/pci/drivers/nvidia/0000:86:00.0', FAR_GPU);
    await using collector = networkOf(host);
    const near = Object.keys(shown(await collector.collect(patient))).filter((key) =>
      key.startsWith('nic_gpu'),
    );
    expect(near).toEqual([
      'nic_gpu_locality_info{gpu_pci_bus_id="0000:1b:00.0",path="pix",pci_bus_id="0000:18:00.0"}',
    ]);
  });
});

describe('damaged in 220 ways', () => {
  const IB = 'sys/class/infiniband/mlx5_0/ports/1';
  test.each([
    ['proc/net/dev', NET_DEV],
    ['sys/class/net/eth0/speed', '100000'],
    ['sys/class/net/eth0/carrier_changes', '12'],
    ['sys/class/net/eth0/operstate', 'up'],
    [`${NIC}/current_link_speed`, '32.0 GT/s PCIe'],
    [`${NIC}/current_link_width`, '16'],
    [`${IB}/state`, '4: ACTIVE'],
    [`${IB}/rate`, '400 Gb/sec (4X NDR)'],
    [`${IB}/counters/port_xmit_data`, '123456789'],
  ])(
    '%s gives no value that it does not have',
    async (path, text) => {
      await using host = ethernet();
      for (const [name, content] of Object.entries(port('mlx5_0'))) host.write(name, content);
      await using collector = networkOf(host);
      expect(await inventions(host, collector, path, Buffer.from(`${text}\n`))).toEqual([]);
    },
    60_000,
  );
});

test('detection counts what there is', async () => {
  await using host = ethernet();
  const settings = defaultSettings('network');
  expect(await kind.detect(settings, host.surroundings)).toMatchObject({ found: true });
  await using nothing = new FakeHost({ 'sys/class/net/lo/operstate': 'unknown' });
  expect(await kind.detect(settings, nothing.surroundings)).toMatchObject({ found: false });
});

// Lost without it: what a real kernel writes, as opposed to what we believe that it writes.
test('this machine itself is read without a complaint', async () => {
  await using folder = new FakeHost();
  const real = { proc: '/proc', sys: '/sys', dev: '/dev', run: '/run', root: '/' };
  const surroundings = { ...folder.surroundings, host: real, clock: systemClock };
  const settings = { ...defaultSettings('network'), virtual_interfaces: true };
  await using collector = createNetworkCollector(settings, surroundings);
  const reading = await collector.collect(patient);
  expect([...reading.rejected]).toEqual([]);
  for (const [key, value] of Object.entries(shown(reading)))
    if (typeof value === 'number') expect(value, key).toBeGreaterThanOrEqual(0);
});
