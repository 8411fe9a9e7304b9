import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import { httpSettings, plainUrl } from '../http/http-caller.ts';
import { secretFilePath } from '../http/secret-file.ts';

/** `alerts.heartbeat` of the aggregator's file. */
export const heartbeatSettings = v.pipe(
  v.strictObject({
    every: v.optional(duration(1_000, 3_600_000), '15s'),
    /** Called each time while all is well, by POST. */
    url: v.optional(plainUrl),
    /** A file with the URL, where it is itself a secret. */
    url_file: v.optional(secretFilePath),
    /** A file with the URL that is called instead while something is wrong. */
    fail_url_file: v.optional(secretFilePath),
    /** What must be there for the URL to be called, where it is configured at all. */
    require: v.optional(v.pipe(v.array(v.picklist(['nats', 'store'])), v.maxLength(2)), ['nats', 'store']),
    ...httpSettings,
  }),
  v.check(
    ({ url, url_file: file }) => url === undefined || file === undefined,
    'must have url or url_file, not both',
  ),
);
