import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { hwCounters } from '../../../../agent/collect/network/ib-counters.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { sharedData } from '../../../support/data.ts';
import { FakeHost, patient, shown } from '../host-files/fake-host.ts';
import { networkOf } from './ib-node.ts';

const sysfs = sharedData('samples/infiniband-sysfs/sys-class-infiniband_h100.tsv');
const ionic = sharedData('samples/rdma/rdma-statistic_ionic.json');
const ROOT = 'sys/class/infiniband';
const STORE = 'sys/devices/infiniband';

/** Path to content. What the capture's last line lacks, a newline, its file lacks too. */
function flattened(bytes: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const lines = bytes.toString('latin1').split('\n');
  lines.forEach((line, i) => {
    const [path, value] = line.split('\t');
    if (line.startsWith('#') || value === undefined || !/^\w+(\/\w+)+$/.test(path!)) return;
    const text = value.replaceAll('\\n', '\n') + (i < lines.length - 1 ? '\n' : '');
    files.set(path!, Buffer.from(text, 'latin1'));
  });
  return files;
}

/** The file that a series comes from, told from its name and labels alone. */
function sourceOf(key: string): string {
  const label = (name: string): string => new RegExp(`[{,]${name}="([^"]*)"`).exec(key)?.[1] ?? '';
  const folder = `${label('device')}/ports/${label('port')}`;
  const way = label('direction') === 'transmit' ? 'xmit' : 'rcv';
  switch (key.split('{')[0]) {
    case 'ib_port_state':
      return `${folder}/state`;
    case 'ib_port_physical_state':
      return `${folder}/phys_state`;
    case 'ib_port_rate_bits_per_second':
      return `${folder}/rate`;
    case 'ib_link_downed_total':
      return `${folder}/counters/link_downed`;
    case 'ib_port_errors_total':
      return `${folder}/counters/${label('kind')}`;
    case 'ib_port_bytes_total':
      return `${folder}/counters/port_${way}_data`;
    case 'ib_port_packets_total':
      return `${folder}/counters/port_${way}_packets`;
    case 'ib_port_transmit_wait_ticks_total':
      return `${folder}/counters/port_xmit_wait`;
    case 'ib_hw_counter_total':
      return `${folder}/hw_counters/${label('counter')}`;
    default:
      return '';
  }
}

describe.skipIf(sysfs === undefined)('the ports of an 8-GPU H100 node', () => {
  const bytes = sysfs === undefined ? Buffer.alloc(0) : readFileSync(sysfs);
  const files = flattened(bytes);

  async function read(host: FakeHost): Promise<Record<string, number | string>> {
    await using collector = networkOf(host, { hw_counters: 'all' });
    return shown(await collector.collect(patient));
  }

  // Lost without it: what a real card's driver writes, as opposed to what we believe that it writes.
  test('give what was expected', async () => {
    await using host = new FakeHost();
    for (const [path, content] of files) host.write(`${ROOT}/${path}`, content);
    const values = await read(host);
    const of = (name: string, device = 'mlx5_0', more = ''): number | string | undefined =>
      values[`${name}{device="${device}"${more},port="1"}`];
    expect(Object.keys(values).filter((key) => key.startsWith('ib_port_state'))).toHaveLength(9);
    expect(Object.values(values).filter((value) => typeof value === 'string')).toEqual([]);
    expect(of('ib_port_state')).toBe(4);
    expect(of('ib_port_physical_state')).toBe(5);
    expect(of('ib_port_rate_bits_per_second')).toBe(400e9);
    expect(of('ib_port_rate_bits_per_second', 'mlx5_bond_0')).toBe(200e9);
    expect(of('ib_link_downed_total')).toBe(0);
    expect(values['ib_port_bytes_total{device="mlx5_0",direction="receive",port="1"}']).toBe(
      230539874932483 * 4,
    );
    expect(
      values['ib_port_errors_total{device="mlx5_0",kind="excessive_buffer_overrun_errors",port="1"}'],
    ).toBe(15);
    expect(values['ib_port_errors_total{device="mlx5_0",kind="port_rcv_errors",port="1"}']).toBe(14);
    expect(values['ib_port_transmit_wait_ticks_total{device="mlx5_0",port="1"}']).toBe(2489603687);
    expect(values['ib_hw_counter_total{counter="roce_adp_retrans",device="mlx5_0",port="1"}']).toBe(3);
    expect(Object.keys(values).filter((key) => key.includes('lifespan'))).toEqual([]);
    expect(
      values[
        'ib_port_info{board_id="MT_0000000838",device="mlx5_0",firmware="28.41.1000",link_layer="InfiniBand",model="MT4129",port="1"}'
      ],
    ).toBe(1);
    // Of 17 counters, 25 hw_counters, 3 states and the info.
    expect(Object.keys(values)).toHaveLength(9 * (17 + 25 + 3 + 1));
  });

  // Lost without it: an agent that falls over a card that writes something else, or makes numbers up.
  test('damaged in 220 ways give no value that their files do not have', async () => {
    await using host = new FakeHost();
    for (const [path, content] of files) {
      host.write(`${ROOT}/${path}`, content);
      host.write(`${STORE}/${path}`, content);
    }
    const whole = await read(host);
    const wrong: string[] = [];
    let lost = 0;
    for (const { what, bytes: hurt } of damagedInputs(bytes, 11)) {
      const damaged = flattened(hurt);
      const changed = new Set(
        [...files.keys(), ...damaged.keys()].filter((path) => !sameFile(files.get(path), damaged.get(path))),
      );
      for (const path of changed) place(host, path, damaged.get(path), !files.has(path));
      // Devices that the damage did not touch are left out: they cost time and read as before.
      host.remove(ROOT);
      for (const device of new Set([...changed].map((path) => path.split('/')[0]!)))
        host.link(`${ROOT}/${device}`, `${STORE}/${device}`);
      for (const [key, value] of Object.entries(await read(host))) {
        if (typeof value === 'string') lost++;
        else if (!key.startsWith('ib_port_info') && value !== whole[key] && !changed.has(sourceOf(key)))
          wrong.push(`${what}: ${key} is ${value}`);
      }
      for (const path of changed) place(host, path, files.get(path), !files.has(path));
      host.write(`${ROOT}/.keep`, '');
    }
    expect(wrong).toEqual([]);
    expect(lost).toBeGreaterThan(0);
  }, 120_000);
});

const sameFile = (a: Buffer | undefined, b: Buffer | undefined): boolean =>
  a === undefined || b === undefined ? a === b : a.equals(b);

/** A path that the damage made may be a folder of the real tree, or below one of its files: then it is not there. */
function place(host: FakeHost, path: string, content: Buffer | undefined, isNew: boolean): void {
  try {
    if (content === undefined) host.remove(`${STORE}/${path}`);
    else host.write(`${STORE}/${path}`, content);
  } catch (error) {
    if (!isNew) throw error;
  }
}

// Lost without it: another vendor's errors, because only Mellanox's names are known.
test.skipIf(ionic === undefined)(
  'the error counters of an AMD card are told from its traffic by their names',
  () => {
    const [first] = JSON.parse(readFileSync(ionic!, 'utf8')) as Record<string, unknown>[];
    const names = Object.keys(first!).filter((name) => name !== 'ifname' && name !== 'port');
    const errors = hwCounters(names, 'errors');
    expect(hwCounters(names, 'all')).toEqual(names);
    expect(hwCounters(names, 'none')).toEqual([]);
    expect(errors).toEqual(
      expect.arrayContaining([
        'req_rx_rnr_retry_err',
        'resp_rx_outouf_seq',
        'tx_rdma_ack_timeout',
        'tx_rdma_retx_pkts',
        'rx_rdma_ecn_pkts',
      ]),
    );
    expect(errors.filter((name) => /(ucast|mcast)_(bytes|pkts)$/.test(name))).toEqual([]);
  },
);
