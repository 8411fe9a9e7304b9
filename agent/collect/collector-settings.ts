import * as v from 'valibot';
import { amdSmiSettings } from './amd/amd-smi/settings.ts';
import { deviceMetricsExporterSettings } from './amd/device-metrics-exporter/settings.ts';
import { rocmSmiSettings } from './amd/rocm-smi/settings.ts';
import { amdSysfsSettings } from './amd/sysfs/settings.ts';
import { hostSettings } from './host/settings.ts';
import { kernelLogSettings } from './kernel-log/settings.ts';
import { networkSettings } from './network/settings.ts';
import { dcgmExporterSettings } from './nvidia/dcgm-exporter/settings.ts';
import { nvidiaSmiSettings } from './nvidia/nvidia-smi/settings.ts';
import { nvmlSettings } from './nvidia/nvml/settings.ts';
import { prometheusSettings } from './prometheus/settings.ts';
import { simulatedSettings } from './simulated/settings.ts';
import { workloadSettings } from './workload/settings.ts';

/** The one list of sources' settings: a key here is a key of `collectors` in the configuration. */
const schemas = {
  nvml: nvmlSettings,
  dcgm_exporter: dcgmExporterSettings,
  nvidia_smi: nvidiaSmiSettings,
  kernel_log: kernelLogSettings,
  host: hostSettings,
  network: networkSettings,
  prometheus: prometheusSettings,
  amd_sysfs: amdSysfsSettings,
  amd_smi: amdSmiSettings,
  rocm_smi: rocmSmiSettings,
  device_metrics_exporter: deviceMetricsExporterSettings,
  workload: workloadSettings,
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
