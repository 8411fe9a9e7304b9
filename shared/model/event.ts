/** Something that happened, as durable as a sample. */
export interface FleetEvent {
  readonly type: EventType;
  readonly timestampMs: number;
  /** GPU index, empty where the event does not concern one GPU. */
  readonly gpu: string;
  readonly gpuUuid: string;
  /** What a reader would see, such as the kernel's line. At most MAX_EVENT_TEXT characters. */
  readonly text: string;
  /** Details by type, such as { code: '79' } for an Xid. At most MAX_EVENT_ATTRIBUTES. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** The event types that this version raises. An unknown type from a newer agent is kept and shown, not refused. */
export type EventType =
  /** An Xid of NVIDIA's driver: code, name, severity, action, pci, pid, process, incident, follows, count ... */
  | 'xid'
  /** An error that an NVSwitch reports. */
  | 'sxid'
  /** Xid 154: the driver says what it needs, which beats every table. */
  | 'recovery_action'
  /** An error that an AMD GPU's RAS reports: class, block, errors. */
  | 'ras'
  /** An AMD GPU is being reset by its driver, was, or could not be. */
  | 'gpu_reset'
  /** A PCIe device reported an error, or its link went. */
  | 'pcie_aer'
  /** A line about NVLink, NVSwitch or the fabric that is neither an Xid nor an SXid. */
  | 'nvlink'
  /** The kernel killed a process for want of memory. */
  | 'oom_kill'
  /** A machine check, EDAC or firmware error of the host. */
  | 'hardware_error'
  /** Any other kernel line that matters to GPUs: a ring's timeout, a failed init, a crash in a GPU library, a hung task. */
  | 'kernel_error'
  /** The node crashed before this boot: what the kernel kept of its last words. */
  | 'crash'
  /** Kernel lines were overwritten before they could be read: `count` of them. */
  | 'kernel_log_gap'
  /** A diagnostic ran outside of this product: result (pass, fail), source, test, gpu. A pass clears a critical state. */
  | 'diagnostic'
  /** Somebody paused collecting (`phase` begin, with `until`), or it goes on (`phase` over). */
  | 'collection_pause'
  /** The agent's configuration was read again: `changed`, and what only a restart changes. */
  | 'config_reload'
  /** A network link went down, or vanished with its device: device, port, kind ... */
  | 'link_down'
  | 'link_up'
  /** It went down so often within a window that it will not hold: count, window_s. */
  | 'link_flap'
  /** A network link or the PCIe link of its card is slower than it was or could be (over: no more): what, was, now. */
  | 'link_degraded'
  | 'gpu_lost'
  | 'gpu_back'
  | 'counter_reset'
  | 'job_change'
  | 'clock_step'
  | 'collector_stuck'
  | 'identity_conflict'
  /** The agent ran a command of its list for an aggregator: command, id, outcome, status, duration_ms. */
  | 'command_run'
  | (string & {});

export const MAX_EVENT_TEXT = 4096;
export const MAX_EVENT_ATTRIBUTES = 16;
