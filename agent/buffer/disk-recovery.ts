import { describeError } from '#shared/errors/fleet-error.ts';
import type { Logger } from '#shared/logging/logger.ts';
import type { Clock } from '#shared/model/clock.ts';
import { isDamage } from './level-database.ts';
import type { ReserveFile } from './reserve-file.ts';

/** How often a disk that takes nothing is asked again. */
const RETRY_MS = 1_000;

export interface DiskRecoveryOptions {
  readonly reserve: ReserveFile;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Closes the database and opens it again. */
  readonly reopen: () => Promise<void>;
  /** Sets it aside, and salvages it into a new one. */
  readonly replace: (why: string) => Promise<void>;
}

/**
 * After a batch failed, the database is not written until it was opened anew: its log may end in half a record,
 * behind which LevelDB would write what no recovery finds. It stays open for reading until the disk has proved,
 * by taking the reserve file, that opening can succeed.
 */
export class DiskRecovery {
  readonly #options: DiskRecoveryOptions;
  #failure: { damaged: boolean; why: string } | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  /** The reserve could not be kept beside the database: the disk is nearly full. */
  isTight = false;

  constructor(options: DiskRecoveryOptions) {
    this.#options = options;
  }

  get isFailed(): boolean {
    return this.#failure !== undefined;
  }

  failed(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { damaged: isDamage(error), why: describeError(error) };
  }

  /** True where the database can be written. After a failure it tries to come up again, once in RETRY_MS. */
  async ready(): Promise<boolean> {
    if (!this.#failure) return true;
    const { reserve, clock, logger, reopen, replace } = this.#options;
    const now = clock.monotonic();
    if (now - this.#askedAt < RETRY_MS) return false;
    this.#askedAt = now;
    try {
      await reserve.release();
      await reserve.take();
      await reserve.release();
      if (this.#failure.damaged) await replace(this.#failure.why);
      else await reopen();
      this.#failure = undefined;
    } catch (error) {
      logger.debug({ cause: describeError(error) }, 'the buffer cannot be written yet');
      // Opening it met the damage: the next try replaces it.
      if (isDamage(error)) this.#failure = { damaged: true, why: describeError(error) };
      return false;
    }
    this.isTight = await reserve.take().then(
      () => false,
      () => true,
    );
    return true;
  }
}
