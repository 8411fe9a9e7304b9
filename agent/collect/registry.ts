import { describeError } from '#shared/errors/fleet-error.ts';
import type { Collector } from './collector.ts';
import {
  type CollectorSettings,
  defaultSettings,
  type SettingsOf,
  type SourceKey,
} from './collector-settings.ts';
import type { Detection, SourceKind, Surroundings } from './source-kind.ts';

interface Entry<K extends SourceKey> {
  readonly key: K;
  /**
   * Looked for where the configuration names no sources: always, never, or only where none of these was found, which
   * know as much and cost less.
   */
  readonly auto: boolean | readonly SourceKey[];
  readonly load: () => Promise<{ readonly kind: SourceKind<SettingsOf<K>> }>;
}

const entry = <K extends SourceKey>(key: K, auto: Entry<K>['auto'], load: Entry<K>['load']): Entry<K> => ({
  key,
  auto,
  load,
});

/** The one list of sources, in order of preference. A module is loaded when it is asked for. */
const entries = [
  entry('nvml', true, () => import('./nvidia/nvml/kind.ts')),
  entry('dcgm_exporter', true, () => import('./nvidia/dcgm-exporter/kind.ts')),
  entry('nvidia_smi', ['nvml', 'dcgm_exporter'], () => import('./nvidia/nvidia-smi/kind.ts')),
  entry('kernel_log', true, () => import('./kernel-log/kind.ts')),
  entry('host', true, () => import('./host/kind.ts')),
  entry('network', true, () => import('./network/kind.ts')),
  entry('prometheus', false, () => import('./prometheus/kind.ts')),
  entry('amd_sysfs', true, () => import('./amd/sysfs/kind.ts')),
  entry('amd_smi', ['amd_sysfs'], () => import('./amd/amd-smi/kind.ts')),
  entry('rocm_smi', ['amd_sysfs', 'amd_smi'], () => import('./amd/rocm-smi/kind.ts')),
  entry(
    'device_metrics_exporter',
    ['amd_sysfs', 'amd_smi', 'rocm_smi'],
    () => import('./amd/device-metrics-exporter/kind.ts'),
  ),
  entry('workload', true, () => import('./workload/kind.ts')),
  entry('simulated', false, () => import('./simulated/kind.ts')),
] as const;

/** A source, and whether the node has it. */
export interface FoundSource {
  readonly key: SourceKey;
  /** Named in the configuration; else it was looked for. */
  readonly configured: boolean;
  readonly detection: Detection;
}

/** The collectors of this node, and what was looked for to choose them. */
export interface ChosenSources {
  readonly collectors: readonly Collector[];
  readonly found: readonly FoundSource[];
}

/**
 * Makes the collectors: those that the configuration names, found or not; where it names none, what detection
 * finds. Throws `invalid_config` where a source's settings cannot be used.
 */
export async function createCollectors(
  settings: CollectorSettings,
  surroundings: Surroundings,
): Promise<ChosenSources> {
  const collectors: Collector[] = [];
  const found: FoundSource[] = [];
  try {
    for (const one of entries) {
      const chosen = await choose(one as Entry<SourceKey>, settings, surroundings, found);
      found.push(...chosen.found);
      collectors.push(...chosen.collectors);
    }
  } catch (error) {
    for (const collector of collectors) await collector[Symbol.asyncDispose]();
    throw error;
  }
  return { collectors, found };
}

/** What the node has, of every source that can be looked for or is configured: for people. */
export async function detectSources(
  settings: CollectorSettings,
  surroundings: Surroundings,
): Promise<FoundSource[]> {
  const found: FoundSource[] = [];
  for (const one of entries as readonly Entry<SourceKey>[]) {
    const own = settings[one.key];
    if (own === false || (!own && !one.auto)) continue;
    found.push({
      key: one.key,
      configured: own !== undefined,
      detection: await look(one, own, surroundings),
    });
  }
  return found;
}

async function choose<K extends SourceKey>(
  one: Entry<K>,
  settings: CollectorSettings,
  surroundings: Surroundings,
  before: readonly FoundSource[],
): Promise<ChosenSources> {
  const own = settings[one.key] as SettingsOf<K> | false | undefined;
  if (own === false) return NOTHING;
  if (own !== undefined) {
    const { kind } = await one.load();
    return { collectors: kind.create(own, surroundings), found: [] };
  }
  if (!one.auto || Object.values(settings).some((value) => value)) return NOTHING;
  const better = one.auto === true ? [] : one.auto;
  if (before.some(({ key, detection }) => detection.found && better.includes(key))) return NOTHING;
  const detection = await look(one, undefined, surroundings);
  const found: FoundSource[] = [{ key: one.key, configured: false, detection }];
  if (!detection.found) return { collectors: [], found };
  const { kind } = await one.load();
  return { collectors: kind.create(defaultSettings(one.key), surroundings), found };
}

async function look<K extends SourceKey>(
  one: Entry<K>,
  own: SettingsOf<K> | undefined,
  surroundings: Surroundings,
): Promise<Detection> {
  try {
    const { kind } = await one.load();
    return await kind.detect(own ?? defaultSettings(one.key), surroundings);
  } catch (error) {
    return { found: false, why: describeError(error) };
  }
}

const NOTHING: ChosenSources = { collectors: [], found: [] };
