/** What a file in <port>/counters is: the metric, its label, and what its unit is multiplied by. */
export interface IbCounter {
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly times: number;
}

const error = (kind: string): readonly [string, IbCounter] => [
  kind,
  { metric: 'ib_port_errors_total', labels: { kind }, times: 1 },
];
const traffic = (
  file: string,
  metric: string,
  direction: string,
  times: number,
): readonly [string, IbCounter] => [file, { metric, labels: { direction }, times }];

/**
 * The files of <port>/counters, from Documentation/ABI/stable/sysfs-class-infiniband. Data is counted in words of four
 * octets. Unicast and multicast packets are left out: their sum is there.
 */
export const PORT_COUNTERS: ReadonlyMap<string, IbCounter> = new Map([
  ['link_downed', { metric: 'ib_link_downed_total', labels: {}, times: 1 }],
  error('symbol_error'),
  error('link_error_recovery'),
  error('local_link_integrity_errors'),
  error('excessive_buffer_overrun_errors'),
  error('port_rcv_errors'),
  error('port_rcv_remote_physical_errors'),
  error('port_rcv_switch_relay_errors'),
  error('port_rcv_constraint_errors'),
  error('port_xmit_constraint_errors'),
  error('port_xmit_discards'),
  error('VL15_dropped'),
  traffic('port_xmit_data', 'ib_port_bytes_total', 'transmit', 4),
  traffic('port_rcv_data', 'ib_port_bytes_total', 'receive', 4),
  traffic('port_xmit_packets', 'ib_port_packets_total', 'transmit', 1),
  traffic('port_rcv_packets', 'ib_port_packets_total', 'receive', 1),
  ['port_xmit_wait', { metric: 'ib_port_transmit_wait_ticks_total', labels: {}, times: 1 }],
]);

/** How long a card keeps its counters before it asks the hardware again: a setting, not a counter. */
const SETTING = 'lifespan';
/** bnxt_re and irdma list what is in use beside what was counted. */
const IN_USE = /^(active|watermark|max)_/;
/**
 * Errors, retransmissions and congestion, by the words that drivers use: mlx5 (local_ack_timeout_err, out_of_sequence,
 * rnr_nak_retry_err, roce_slow_restart, roce_adp_retrans, np_cnp_sent ...), ionic (req_rx_rnr_retry_err,
 * tx_rdma_ack_timeout, tx_rdma_retx_pkts ...), bnxt_re, efa, irdma.
 */
const ERROR =
  /err|nak|timeout|retry|retrans|retx|discard|drop|out_?of|outo?uf|slow_restart|cnp|ecn|duplicate|dup_|inval|exceeded|excd|icrc/i;
const NAME = /^[A-Za-z0-9_]{1,64}$/;
/** Per port: ionic has 52, bnxt_re some 60. */
const MAX_HW_COUNTERS = 96;

/** The hw_counters to read, of the files that a port has. */
export function hwCounters(files: readonly string[], wanted: 'errors' | 'all' | 'none'): string[] {
  if (wanted === 'none') return [];
  return files
    .filter((name) => NAME.test(name) && name !== SETTING && !IN_USE.test(name))
    .filter((name) => wanted === 'all' || ERROR.test(name))
    .slice(0, MAX_HW_COUNTERS);
}
