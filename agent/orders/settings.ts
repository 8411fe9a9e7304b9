import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import { placeholderFault } from './placeholders.ts';

const argument = v.pipe(
  v.string('must be text'),
  v.maxLength(1_024, 'must be at most 1,024 characters'),
  v.check((text) => !text.includes('\0'), 'must not hold a null character'),
  v.check(
    (text) => placeholderFault(text) === undefined,
    'has a placeholder other than {gpu}, {gpu_uuid}, {node}',
  ),
);

/** What an aggregator may have this agent run, by name: nothing where the configuration names nothing. */
export const commandsSchema = v.pipe(
  v.record(
    v.pipe(
      v.string(),
      v.regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'is not a name: lower-case letters, digits, - and _'),
    ),
    v.strictObject({
      /** Program and arguments, without a shell. Arguments may hold {gpu}, {gpu_uuid} and {node}. */
      argv: v.pipe(
        v.array(argument, 'must be a list of a program and its arguments'),
        v.minLength(1, 'must name a program'),
        v.maxLength(64, 'must be at most 64'),
        v.check(
          ([program]) => /^\/[^{}]+$/.test(program ?? ''),
          'must begin with the absolute path of a program',
        ),
      ),
      /** Then it gets SIGTERM, and SIGKILL 5 s later, with all of its children. */
      timeout: v.optional(duration(1_000, 3_600_000), '60s'),
      /** Of this host's /etc/passwd; the agent must be root to become it. */
      user: v.optional(
        v.pipe(v.string('must be a name'), v.regex(/^[a-z_][a-z0-9_.-]{0,31}$/, 'is not a user name')),
      ),
    }),
  ),
  v.check((all) => Object.keys(all).length <= 64, 'must be at most 64 commands'),
);

/** One of them. `timeout` in ms. */
export type CommandSettings = v.InferOutput<typeof commandsSchema>[string];
