import type { RejectedSample, RejectedTick } from '#shared/model/rejection.ts';

/** The JSON of what was rejected of one tick; documented field by field in README.md. */
export function rejectedMessage({
  source,
  group,
  timestampMs,
  live,
  samples,
  omitted,
}: RejectedTick): string {
  return JSON.stringify({
    cluster: source.cluster,
    node: source.node,
    external_labels: Object.fromEntries(source.externalLabels),
    source: group,
    time: isoTime(timestampMs),
    live,
    samples: samples.map(sampleJson),
    omitted,
  });
}

function sampleJson({ series, value, reason, low, high, count }: RejectedSample) {
  if (series === undefined)
    return {
      metric: '',
      labels: {},
      value: null,
      reason,
      not_before: isoTime(low),
      not_after: isoTime(high),
      count,
    };
  return {
    metric: series.name,
    labels: Object.fromEntries(series.labels),
    value: value === undefined ? null : jsonNumber(value),
    reason,
    low,
    high,
  };
}

/** JSON has no infinity and no NaN: the words of protobuf's JSON. */
function jsonNumber(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}

/** The end of the year 9999, the last moment of an ISO text of four digits. */
const LAST_MS = 253_402_300_799_999;

/** A time that is none is the first moment of 1970. */
export function isoTime(ms: number): string {
  return new Date(Math.min(Math.max(ms || 0, 0), LAST_MS)).toISOString();
}
