import type { XidSeverity } from '#shared/catalogue/xid.ts';
import type { EventType } from '#shared/model/event.ts';

/** What one kernel line tells, before it is known which GPU that is and what it belongs to. */
export interface Finding {
  readonly type: EventType;
  /** The code, or the class: `79`, `20034`, `poison_consumed`. What storms and incidents are counted by. */
  readonly code: string;
  /** For a headline. */
  readonly name: string;
  readonly severity: XidSeverity;
  /** What to do; `none` where nothing. */
  readonly action: string;
  /** Why this verdict, where others disagree; empty where they do not. */
  readonly reason?: string;
  /** As normalPci gives it. */
  readonly pci?: string;
  /** What else the line says; at most MAX_DETAILS, each at most MAX_DETAIL_TEXT characters. */
  readonly details?: Readonly<Record<string, string>>;
  /** Tells apart what has the same type, code, place and severity, such as the job of an OOM kill. */
  readonly what?: string;
  /** A counter of the catalogue besides kernel_log_events_total, with its labels but gpu and uuid. */
  readonly counter?: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  /** What the driver itself asks for (Xid 154); `none` ends the incident. */
  readonly asks?: string;
}

/** Leaves room for the attributes that every event has, within MAX_EVENT_ATTRIBUTES. */
export const MAX_DETAILS = 5;
export const MAX_DETAIL_TEXT = 256;

/** The first details that are there, cut to size. */
export function details(all: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const said = Object.entries(all).filter((pair): pair is [string, string] => !!pair[1]);
  return Object.fromEntries(
    said.slice(0, MAX_DETAILS).map(([name, value]) => [name, value.slice(0, MAX_DETAIL_TEXT)]),
  );
}
