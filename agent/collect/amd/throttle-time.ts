/** More GPUs times reasons than a node has. */
const MAX_TRACKED = 1024;

interface Track {
  cycles: number;
  residency: number;
  atMs: number;
  seconds: number;
}

/**
 * Seconds that a clock was held down, from AMD's residencies. A residency counts the firmware's cycles in which a
 * throttler was active, and the accumulation counter all cycles; neither has a unit of time. Between two reads,
 * share of cycles * elapsed time is the time held down; its sum is a counter that begins at 0 with the agent.
 * Source of the share: amdsmi's amdsmi_get_violation_status computes its percentages the same way.
 */
export class ThrottleTime {
  readonly #tracks = new Map<string, Track>();

  /** `key`: GPU and reason. `atMs` monotonic. The seconds so far; undefined over the limit of tracks. */
  observe(key: string, cycles: number, residency: number, atMs: number): number | undefined {
    const track = this.#tracks.get(key);
    if (!track) {
      if (this.#tracks.size >= MAX_TRACKED) return undefined;
      this.#tracks.set(key, { cycles, residency, atMs, seconds: 0 });
      return 0;
    }
    const passed = cycles - track.cycles;
    const held = residency - track.residency;
    // A driver reload or a wrapped counter goes back: that interval is unknown, and adds nothing.
    if (passed > 0 && held >= 0 && held <= passed)
      track.seconds += ((held / passed) * (atMs - track.atMs)) / 1000;
    if (passed !== 0) Object.assign(track, { cycles, residency, atMs });
    return track.seconds;
  }
}
