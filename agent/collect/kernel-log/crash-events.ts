import { type FleetEvent, MAX_EVENT_TEXT } from '#shared/model/event.ts';
import { KernelEvents, type KernelEventsOptions } from './kernel-events.ts';
import { readCrash } from './lines/crash.ts';
import type { CrashDump } from './pstore.ts';

/** Up to where an earlier agent had read the log of the boot that crashed. */
export interface ReadUpTo {
  readonly usec: number;
  /** Unix ms of that line. */
  readonly wallMs: number;
}

/** Enough for the registers and the stack of one fault, within the text of an event. */
export const TAIL_LINES = 60;
/** A dump of the boot that was read: its line of that stamp was logged at that time, give or take the clock of the firmware. */
const SAME_BOOT_MS = 120_000;
const CAUSES = new Set(['panic', 'oops', 'hard_lockup']);

/**
 * What a crash left: its lines as events (`late`, source `pstore`), less those that were reported before it, and one
 * `crash` event with the line that caused it and the tail of the log.
 *
 * The dump has no date but its file's: the last line was logged then.
 */
export function crashEvents(
  dump: CrashDump,
  read: ReadUpTo | undefined,
  options: Omit<KernelEventsOptions, 'source' | 'late' | 'boot'>,
): FleetEvent[] {
  const source = 'pstore';
  const lastUsec = dump.lines.at(-1)?.usec ?? 0;
  const wallOf = (usec: number): number => dump.wallMs - (lastUsec - usec) / 1000;
  const known =
    read !== undefined && Math.abs(wallOf(read.usec) - read.wallMs) <= SAME_BOOT_MS ? read.usec : -1;
  const events = new KernelEvents({ ...options, source, late: true, boot: dump.id.slice(0, 8) });
  for (const { usec, text } of dump.lines) {
    const line = { text, wallMs: wallOf(usec), bootMs: usec / 1000 };
    if (usec > known) events.line(line, line.wallMs);
  }
  const cause = dump.lines.find(({ text }) => CAUSES.has(readCrash(text)?.code ?? ''))?.text;
  return [...events.flush(), crashEvent(dump, cause, source)];
}

function crashEvent({ id, wallMs, lines }: CrashDump, cause: string | undefined, source: string): FleetEvent {
  const tail = lines.slice(-TAIL_LINES).map(({ text }) => text);
  const text = `The node crashed: ${cause ?? 'no cause in what is left of its log'}\n${tail.join('\n')}`;
  return {
    type: 'crash',
    timestampMs: Math.round(wallMs),
    gpu: '',
    gpuUuid: '',
    text: text.slice(0, MAX_EVENT_TEXT),
    attributes: {
      name: 'crash before this boot',
      severity: 'critical',
      action: 'read the tail; drain the node if it repeats',
      source,
      late: 'true',
      dump: id,
      lines: String(lines.length),
      ...(cause === undefined ? {} : { cause: cause.slice(0, 256) }),
    },
  };
}
