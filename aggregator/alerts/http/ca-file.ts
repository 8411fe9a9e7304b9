import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { FleetError } from '#shared/errors/fleet-error.ts';

/** A setting: PEM of the authority that signed the server's certificate, instead of the system's. */
export const caFile = v.optional(v.pipe(v.string('must be the path of a file'), v.minLength(1)));

/** Throws `invalid_config` where the file cannot be read. */
export function readAuthority(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new FleetError('invalid_config', `Cannot read ca_file ${file}`, { cause });
  }
}
