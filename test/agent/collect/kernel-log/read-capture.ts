import { Counters } from '../../../../agent/collect/kernel-log/counters.ts';
import type { Finding } from '../../../../agent/collect/kernel-log/finding.ts';
import { KernelEvents } from '../../../../agent/collect/kernel-log/kernel-events.ts';
import { LineReader } from '../../../../agent/collect/kernel-log/line-reader.ts';
import { catalogueVerdicts } from '../../../../agent/collect/kernel-log/verdicts.ts';
import type { FleetEvent } from '../../../../shared/model/event.ts';
import { logLines } from './log-lines.ts';

export interface ReadLine {
  readonly text: string;
  readonly found: Finding;
}

/** What each line tells by itself. */
export function readLines(capture: string): { readonly lines: ReadLine[]; readonly malformed: number } {
  const reader = new LineReader(catalogueVerdicts, () => undefined);
  const lines: ReadLine[] = [];
  let malformed = 0;
  for (const { text } of logLines(capture)) {
    const found = reader.read(text);
    if (found === 'malformed') malformed++;
    else if (found !== undefined) lines.push({ text, found });
  }
  return { lines, malformed };
}

/** The events that an agent gives which reads the capture line by line, as it was logged. */
export function readEvents(capture: string): { readonly events: FleetEvent[]; readonly counters: Counters } {
  const counters = new Counters();
  const kernel = new KernelEvents({
    source: 'kernel-log',
    boot: 'b007',
    verdicts: catalogueVerdicts,
    locate: () => undefined,
    gpuOf: () => undefined,
    counters,
    late: false,
  });
  const events: FleetEvent[] = [];
  for (const { usec, text } of logLines(capture)) {
    kernel.line({ text, wallMs: usec / 1000, bootMs: usec / 1000 }, usec / 1000);
    events.push(...kernel.take(usec / 1000));
  }
  events.push(...kernel.flush());
  return { events, counters };
}
