export const FAULT_KINDS = [
  'kill',
  'stop',
  'partition',
  'fill-disk',
  'corrupt',
  'reimage',
  'clone-disk',
  'clock-step',
  'copy-store',
  'restore-store',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** One fault: done at `atS`, undone `forS` later. */
export interface Fault {
  /** Seconds after the start of the run. */
  readonly atS: number;
  readonly kind: FaultKind;
  /** store, nats, aggregator, or the name of a node. */
  readonly target: string;
  /** How long it stays away, stopped, cut off or full, seconds; corrupt, reimage: cut off before that. */
  readonly forS: number;
  /** clock-step: seconds, backwards where negative. */
  readonly stepS?: number;
  /** corrupt: where in the file, 0 to 1. */
  readonly part?: number;
  /** clone-disk: the node that starts on the copy. */
  readonly clone?: string;
}

export function describeFault(fault: Fault): string {
  const parts: string[] = [fault.kind, fault.target];
  if (fault.stepS !== undefined) parts.push(`by ${fault.stepS} s`);
  else if (fault.forS > 0) parts.push(`for ${fault.forS} s`);
  if (fault.part !== undefined) parts.push(`at ${fault.part.toFixed(3)} of the file`);
  if (fault.clone !== undefined) parts.push(`onto ${fault.clone}`);
  return parts.join(' ');
}
