import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { Collector } from './collector.ts';

/** Small facts that a collector keeps across restarts of the agent. */
export interface Facts {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
}

/** Where this host's files are: other than the defaults in a container that mounts the host, and in tests. */
export interface HostPaths {
  /** /proc */
  readonly proc: string;
  /** /sys */
  readonly sys: string;
  /** /dev */
  readonly dev: string;
  /** /run */
  readonly run: string;
  /** The root filesystem, for what is looked up by a path of the host: / */
  readonly root: string;
}

/** What a collector may use of its surroundings. */
export interface Surroundings {
  readonly node: string;
  /** Where a source does not set its own. */
  readonly intervalMs: number;
  readonly host: HostPaths;
  /** Absolute: a folder of the agent's own, for files that a collector keeps. Exists. */
  readonly directory: string;
  readonly facts: Facts;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
}

/** Whether a node has a source. Shown by `doctor`; decides where the configuration names no collectors. */
export type Detection =
  | {
      readonly found: true;
      /** One line: `libnvidia-ml.so.1 590.48.01 in /usr/lib/x86_64-linux-gnu`. */
      readonly what: string;
      /** What it could read more of with other rights, and how to give them. */
      readonly hint?: string;
    }
  | {
      readonly found: false;
      /** One line: `no /dev/kmsg`. */
      readonly why: string;
      /** What to do, where someone who expects it here should do something. */
      readonly hint?: string;
    };

/**
 * One kind of source. `Settings` is what its schema (settings.ts beside it) gives. The module is loaded only where
 * the source is used, or asked about: a node pays for what it has.
 */
export interface SourceKind<Settings> {
  /** Looks, without side effects, and within a second: never loads a vendor's library into this process. */
  detect(settings: Settings, surroundings: Surroundings): Promise<Detection>;
  /** One collector, or several where groups of series have intervals of their own. Throws `invalid_config`. */
  create(settings: Settings, surroundings: Surroundings): readonly Collector[];
}
