import type { FleetEvent } from '#shared/model/event.ts';
import type { AgentStatus } from './agent-status.ts';
import type { GateFacts } from './gate-facts.ts';

/** A pause is for a driver upgrade or a MIG change, not for ever. */
export const MAX_PAUSE_MS = 86_400_000;
export const MIN_PAUSE_MS = 1_000;

/** What the control socket asks of a running agent. All may be called at any time, also side by side. */
export interface AgentControl {
  status(): Promise<AgentStatus>;
  gateFacts(): GateFacts;
  /** Lets go of every GPU for this long, within MIN_PAUSE_MS and MAX_PAUSE_MS. Resolves when they are let go. */
  pause(ms: number): Promise<void>;
  /** Ends a pause; nothing where there is none. */
  resume(): Promise<void>;
  /** Resolves when it is on disk, or cannot be and goes on from memory. */
  recordEvent(event: FleetEvent): Promise<void>;
  /**
   * Reads the configuration file again, as SIGHUP does. Throws `invalid_config` where nothing was changed;
   * else says what was changed, and what only a restart changes.
   */
  reload(): Promise<readonly string[]>;
}
