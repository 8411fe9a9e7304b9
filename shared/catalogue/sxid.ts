import type { XidSeverity } from './xid.ts';

/** What an SXid (an error that an NVSwitch reports) means, and what to do about it. */
export interface Sxid {
  readonly name: string;
  readonly severity: XidSeverity;
  readonly action: string;
  /** Why this verdict, where the Fabric Manager guide, gpud and NVSentinel disagree; empty where they do not. */
  readonly reason: string;
}

type Class = Omit<Sxid, 'name'>;

const CORRECTED: Class = { severity: 'info', action: 'none', reason: '' };
const WATCH: Class = {
  severity: 'warning',
  action: 'watch the rate; check the link where it rises',
  reason: '',
};
const STALL: Class = {
  severity: 'error',
  action: 'restart the guest or drain the node; check the partition of the fabric manager',
  reason:
    'The driver calls it non-fatal and NVSentinel does nothing; the guide says that the GPU then hangs, as gpud does.',
};
const LINK: Class = {
  severity: 'critical',
  action: 'drain the node and restart the guest or reset the GPUs of the partition; then check the link',
  reason:
    'gpud reboots, NVSentinel calls support; the guide restarts the guest or resets the partition, which is less.',
};
const FABRIC: Class = {
  severity: 'critical',
  action: 'drain and reboot the node: only that resets the whole fabric',
  reason: '',
};
const HOST: Class = {
  severity: 'warning',
  action: 'none; support if it repeats',
  reason: 'The guide lists it as possibly fatal without a remedy; gpud warns.',
};

/**
 * The SXids of the Fabric Manager user guide (appendix D.4 to D.7, as in gpud 4a8de33). Class by class: what the guide
 * says about impact and recovery.
 */
// biome-ignore format: a table, one class and name a line
const table: readonly (readonly [Class, codes: readonly number[], name: string])[] = [
  [CORRECTED, [11012, 11021, 11022, 11023, 12021, 12023, 15008, 15011, 19049, 19055, 19057, 19059, 19062, 19065, 19068, 19071, 24001, 24002, 24003], 'single-bit ECC error'],
  [CORRECTED, [22013], 'Minion link DLREQ interrupt'],
  [WATCH, [20001], 'TX replay error'],
  [WATCH, [20009], 'RX short error rate'],
  [WATCH, [20012], 'broken or inconsistent connection'],
  [STALL, [11004], 'ingress invalid ACL'],
  [STALL, [12028], 'egress non-posted PRIV error'],
  [STALL, [19084], 'AN1 heartbeat timeout'],
  [LINK, [11001], 'ingress invalid command'],
  [LINK, [11009], 'ingress invalid VCSet'],
  [LINK, [11013], 'ingress header DBE'],
  [LINK, [11018], 'ingress RID DBE'],
  [LINK, [11019], 'ingress RLAN DBE'],
  [LINK, [11020], 'ingress control parity'],
  [LINK, [12001], 'egress crossbar overflow'],
  [LINK, [12002], 'egress packet route'],
  [LINK, [12022, 12024], 'egress ECC DBE error'],
  [LINK, [12025], 'egress credit overflow'],
  [LINK, [12026, 12027], 'egress destination request or response ID error'],
  [LINK, [12030, 12031], 'egress control or credit parity error'],
  [LINK, [12032], 'egress flit type mismatch'],
  [LINK, [14017], 'TS ATO timeout'],
  [LINK, [15001], 'route buffer over- or underflow'],
  [LINK, [15006], 'route transdone over- or underflow'],
  [LINK, [15009, 15010, 15012, 15013], 'route DBE or parity error'],
  [LINK, [19047, 19048, 19054, 19056, 19058, 19060, 19061, 19063, 19064, 19066, 19067, 19069, 19070], 'RAM ECC DBE error'],
  [LINK, [20034], 'LTSSM fault up'],
  [LINK, [22012], 'Minion link NA interrupt'],
  [LINK, [24004, 24005, 24006], 'sourcetrack crumbstore DBE'],
  [LINK, [24007], 'sourcetrack timeout error'],
  [FABRIC, [12020], 'egress sequence ID error'],
  [FABRIC, [22003], 'Minion halt'],
  [FABRIC, [22011], 'Minion exterror'],
  [FABRIC, [23001, 23002, 23010, 23011], 'ingress buffer over- or underflow'],
  [FABRIC, [23003, 23004, 23012, 23013], 'egress credit over- or underflow'],
  [FABRIC, [23005, 23006, 23007, 23008, 23009, 23014, 23015, 23016, 23017], 'ingress packet or parity error'],
  [{ ...FABRIC, reason: 'gpud only warns; the guide resets all GPUs and switches.' }, [10003], 'host unhandled interrupt'],
  [HOST, [10001], 'host PRIV error'],
  [HOST, [10002], 'host PRIV timeout'],
  [{ ...WATCH, action: 'check the cooling: links may run with one lane' }, [10004], 'thermal event begins'],
  [CORRECTED, [10005], 'thermal event ends'],
];

const byCode = new Map(
  table.flatMap(([verdict, codes, name]) =>
    codes.map((code): [number, Sxid] => [code, { name, ...verdict }]),
  ),
);

/**
 * The verdict on an SXid. For a code that the table does not have, the driver's word decides: Fatal is critical,
 * anything else a warning.
 */
export function sxidNamed(code: number, fatal: boolean): Sxid {
  const known = byCode.get(code);
  if (known !== undefined) return known;
  return {
    name: 'unknown SXid',
    severity: fatal ? 'critical' : 'warning',
    action: fatal ? 'drain the node; contact support' : 'report once, no remediation',
    reason: "The code is not in the catalogue, so the driver's severity word decides.",
  };
}

/** Every code of the table. */
export const SXID_CODES: readonly number[] = [...byCode.keys()];
