import * as v from 'valibot';
import { duration, parseDuration } from '#shared/config/values.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Receiver } from '../notification.ts';

/** At most so many sends within a window. */
export interface RateLimit {
  readonly count: number;
  readonly windowMs: number;
}

const rateLimit = v.pipe(
  v.string('must be a count and a time, such as 30/1m'),
  v.rawTransform<string, RateLimit>(({ dataset, addIssue, NEVER }) => {
    const [, count, time] = /^(\d{1,6})\/(\S+)$/.exec(dataset.value) ?? [];
    const windowMs = parseDuration(time ?? '') ?? 0;
    if (Number(count) >= 1 && windowMs >= 1_000 && windowMs <= 86_400_000)
      return { count: Number(count), windowMs };
    addIssue({
      message: `must be a count and a time from 1s to 24h, such as 30/1m, and is ${JSON.stringify(dataset.value)}`,
    });
    return NEVER;
  }),
);

/** What every receiver has, whatever its kind; the dispatcher acts on it. Defaults are own judgement. */
export const commonSettings = {
  send_resolved: v.optional(v.boolean('must be true or false'), true),
  rate_limit: v.optional(rateLimit, '30/1m'),
  /** The deadline of one try, ms. */
  timeout: v.optional(duration(100, 300_000), '10s'),
};

export interface CommonSettings {
  readonly send_resolved: boolean;
  readonly rate_limit: RateLimit;
  readonly timeout: number;
}

export interface ReceiverDeps {
  /** The receiver's name in the file, for bodies and logs. */
  readonly name: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One kind of receiver: how its settings look, and how to open it with settings that the schema gave. */
export interface ReceiverKind<Settings extends CommonSettings = CommonSettings> {
  readonly schema: v.GenericSchema<unknown, Settings>;
  /**
   * Connects to nobody: a server that is away is found by the first send. Throws `invalid_config` where a
   * certificate cannot be read. A secret that cannot be read is a warning now and a retry at each send.
   */
  open(settings: Settings, deps: ReceiverDeps): Promise<Receiver>;
}
