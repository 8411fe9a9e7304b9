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
  | 'xid'
  | 'gpu_lost'
  | 'gpu_back'
  | 'counter_reset'
  | 'job_change'
  | 'clock_step'
  | 'collector_stuck'
  | 'identity_conflict'
  | (string & {});

export const MAX_EVENT_TEXT = 4096;
export const MAX_EVENT_ATTRIBUTES = 16;
