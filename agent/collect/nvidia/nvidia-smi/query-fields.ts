import { FleetError } from '#shared/errors/fleet-error.ts';
import { smiFields } from './smi-fields.ts';

const IDENTITY = ['index', 'uuid', 'name', 'serial', 'pci.bus_id', 'driver_version', 'vbios_version'];

/**
 * The properties that a driver has, from `nvidia-smi --help-query-gpu`; other names of the same one on the same
 * line, which newer drivers keep after a renaming:
 *
 *     "clocks_event_reasons.active" or "clocks_throttle_reasons.active"
 *     Bitmask of active clock event reasons. See nvml.h for more details.
 */
export function parseQueryHelp(help: Buffer): string[][] {
  return help
    .toString()
    .split('\n')
    .filter((line) => /^"[\w.]+"(?: or "[\w.]+")*$/.test(line.trim()))
    .map((line) => [...line.matchAll(/"([\w.]+)"/g)].map(([, name]) => name!));
}

/**
 * What to ask this driver for: one name of each property, as it is printed in the header, which is the first. Throws
 * `unavailable` where the driver does not even know a UUID: that was no help text.
 */
export function chooseQueryFields(known: readonly (readonly string[])[], withDetail: boolean): string[] {
  const printed = new Map(known.flatMap((names) => names.map((name) => [name, names[0]!] as const)));
  if (!printed.has('uuid'))
    throw new FleetError('unavailable', 'Cannot read the fields of nvidia-smi: it does not list a uuid');
  const wanted = smiFields.filter(({ detail }) => withDetail || !detail).flatMap(({ csv }) => csv);
  const names = [...IDENTITY, ...wanted].flatMap((name) => printed.get(name) ?? []);
  return [...new Set(names)];
}
