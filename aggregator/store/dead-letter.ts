import { decodeSeries, showSeries } from './time-series.ts';

/** Samples of one series that the store refused for good, with its own words. */
export interface DeadLetter {
  /** As the series' labels say; empty where it has none. */
  readonly cluster: string;
  readonly node: string;
  /** `name{label="value",...}`, at most 2,000 characters. */
  readonly series: string;
  /** The first of them, at most MAX_SHOWN_SAMPLES; `body` has all. */
  readonly samples: readonly { readonly timestampMs: number; readonly value: number }[];
  readonly sampleCount: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** HTTP status of the refusal, and the first 4 KiB of its body. */
  readonly status: number;
  readonly answer: string;
  /** A remote write request of this series alone, uncompressed: for StoreLink.replayDeadLetter. */
  readonly body: Buffer;
}

export const MAX_SHOWN_SAMPLES = 100;

/** `message` is one TimeSeries as it lies in a request. */
export function deadLetterOf(
  message: Buffer,
  { status, text }: { readonly status: number; readonly text: string },
): DeadLetter {
  const series = decodeSeries(message);
  const label = (name: string): string => series.labels.find(([one]) => one === name)?.[1] ?? '';
  return {
    cluster: label('cluster'),
    node: label('node'),
    series: showSeries(series),
    samples: series.samples.slice(0, MAX_SHOWN_SAMPLES),
    sampleCount: series.samples.length,
    fromMs: series.samples[0]?.timestampMs ?? 0,
    toMs: series.samples.at(-1)?.timestampMs ?? 0,
    status,
    answer: text,
    body: Buffer.from(message),
  };
}
