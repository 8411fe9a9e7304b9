import * as v from 'valibot';
import { INPUT } from './gpu-inputs.ts';
import { type GpuRecord, uncorrectedWindow } from './gpu-record.ts';
import { MAX_BURSTS, MAX_INCIDENTS } from './incidents.ts';

/** Buckets of a window, repairs of a GPU: more than there can be. */
const MAX_ENTRIES = 64;

const time = v.pipe(v.number(), v.finite());
const text = v.pipe(v.string(), v.maxLength(256));
const savedRecord = v.object({
  incidents: v.optional(
    v.pipe(
      v.array(
        v.tuple([
          v.picklist(['xid', 'sxid', 'ras', 'diagnostic']),
          text,
          text,
          time,
          v.pipe(time, v.minValue(0)),
          v.pipe(v.array(v.tuple([time, time])), v.maxLength(MAX_BURSTS)),
        ]),
      ),
      v.maxLength(MAX_INCIDENTS),
    ),
  ),
  repairs: v.optional(v.pipe(v.array(time), v.maxLength(MAX_ENTRIES))),
  lostMs: v.optional(time),
  clearedMs: v.optional(time),
  askedAction: v.optional(time),
  eccVolatile: v.optional(time),
  uncorrected: v.optional(v.pipe(v.array(v.tuple([time, time])), v.maxLength(MAX_ENTRIES))),
  mostLinksUp: v.optional(time),
});

/**
 * What of a GPU outlives a restart, as JSON: what happened to it, and what a counter showed when it was last looked
 * at. The same while nothing happens. Shares and means are learned anew within minutes, the thermal baseline within
 * a day.
 */
export function saveRecord(gpu: GpuRecord): unknown {
  const incidents = gpu.incidents
    .all()
    .map(({ type, code, name, atMs, weight, bursts }) => [type, code, name, atMs, weight, bursts]);
  const ecc = gpu.values[INPUT.eccUncorrected]!;
  const uncorrected = gpu.uncorrected?.entries() ?? [];
  return {
    ...(incidents.length > 0 && { incidents }),
    ...(gpu.repairs.length > 0 && { repairs: gpu.repairs }),
    ...(gpu.lostMs !== undefined && { lostMs: gpu.lostMs }),
    ...(Number.isFinite(gpu.clearedMs) && { clearedMs: gpu.clearedMs }),
    ...(!Number.isNaN(gpu.askedAction) && { askedAction: gpu.askedAction }),
    ...(gpu.eccSeen && !Number.isNaN(ecc) && { eccVolatile: ecc }),
    ...(uncorrected.length > 0 && { uncorrected }),
    ...(gpu.mostLinksUp > 0 && { mostLinksUp: gpu.mostLinksUp }),
  };
}

/** Takes what `saveRecord` gave. False, and nothing taken, where it is something else. */
export function restoreRecord(gpu: GpuRecord, saved: unknown): boolean {
  const { success, output } = v.safeParse(savedRecord, saved);
  if (!success) return false;
  for (const [type, code, name, atMs, weight, bursts] of output.incidents ?? [])
    gpu.incidents.restore({ type, code, name, atMs, weight, bursts });
  gpu.repairs = output.repairs ?? [];
  gpu.lostMs = output.lostMs;
  gpu.clearedMs = output.clearedMs ?? Number.NEGATIVE_INFINITY;
  gpu.askedAction = output.askedAction ?? Number.NaN;
  gpu.mostLinksUp = output.mostLinksUp ?? 0;
  if (output.eccVolatile !== undefined) {
    gpu.eccSeen = true;
    gpu.values[INPUT.eccUncorrected] = output.eccVolatile;
  }
  if (output.uncorrected !== undefined) {
    gpu.uncorrected = uncorrectedWindow();
    for (const [atMs, count] of output.uncorrected) gpu.uncorrected.add(count, atMs);
  }
  gpu.urgent = true;
  return true;
}
