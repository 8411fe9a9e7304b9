import * as v from 'valibot';
import { dcgmExporterSettings } from './nvidia/dcgm-exporter/settings.ts';
import { simulatedSettings } from './simulated/settings.ts';

/** The one list of sources' settings: a key here is a key of `collectors` in the configuration. */
const schemas = {
  dcgm_exporter: dcgmExporterSettings,
  simulated: simulatedSettings,
};

export type SourceKey = keyof typeof schemas;
type Schemas = typeof schemas;
export type SettingsOf<K extends SourceKey> = v.InferOutput<Schemas[K]>;
/** What is set; `false` leaves a source out that would be found. */
export type CollectorSettings = { readonly [K in SourceKey]?: SettingsOf<K> | false | undefined };

/** `false` leaves it out; an empty value (`host:`) is the defaults. */
const settingsOrFalse = <S extends v.GenericSchema>(schema: S) =>
  v.optional(
    v.lazy((input) =>
      input === false
        ? v.literal(false)
        : v.pipe(
            v.unknown(),
            v.transform((value) => value ?? {}),
            schema,
          ),
    ),
  );

/**
 * Settings of the sources, by name: what is named is collected. Where nothing but `false` is named, the agent looks
 * for what the node has.
 */
export const collectorsSchema: v.GenericSchema<unknown, CollectorSettings> = v.strictObject(
  Object.fromEntries(Object.entries(schemas).map(([key, schema]) => [key, settingsOrFalse(schema)])) as {
    [K in SourceKey]: ReturnType<typeof settingsOrFalse<Schemas[K]>>;
  },
) as unknown as v.GenericSchema<unknown, CollectorSettings>;

/** The settings that a source has where none are given. */
export function defaultSettings<K extends SourceKey>(key: K): SettingsOf<K> {
  return v.parse(schemas[key] as unknown as v.GenericSchema<unknown, SettingsOf<K>>, {});
}
