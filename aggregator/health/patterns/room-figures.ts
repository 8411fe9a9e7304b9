import { DAY_MS, HOUR_MS } from './daily-figures.ts';

const HOURS = 24;
/** Four weeks: each weekday four times. */
const DAYS = 28;
const SLOTS = DAYS * HOURS;
/** A room, a rack or a PDU each; 2.7 kB. */
const MAX_ROOMS = 2000;

interface Room {
  readonly hours: Float32Array;
  /** Unix hour up to which places are of the last four weeks. */
  newest: number;
}

/** The first figure of each hour of the last four weeks, of rooms, racks and PDUs. Lost with the process. */
export class RoomFigures {
  readonly #rooms = new Map<string, Room>();

  /** False where there are too many rooms, or the figure is older than four weeks. */
  offer(name: string, value: number, atMs: number): boolean {
    if (!Number.isFinite(value)) return false;
    let room = this.#rooms.get(name);
    const hour = Math.floor(atMs / HOUR_MS);
    if (room === undefined) {
      if (this.#rooms.size >= MAX_ROOMS) return false;
      room = { hours: new Float32Array(SLOTS).fill(Number.NaN), newest: hour };
      this.#rooms.set(name, room);
    }
    if (hour <= room.newest - SLOTS) return false;
    for (let h = Math.max(room.newest + 1, hour - SLOTS + 1); h <= hour; h++)
      room.hours[h % SLOTS] = Number.NaN;
    room.newest = Math.max(room.newest, hour);
    if (Number.isNaN(room.hours[hour % SLOTS]!)) room.hours[hour % SLOTS] = value;
    return true;
  }

  /** Each room's whole days, oldest first, 24 UTC hours each. */
  *rooms(): IterableIterator<readonly [name: string, hourly: Float64Array]> {
    for (const [name, room] of this.#rooms) {
      const lastDay = Math.floor(((room.newest + 1) * HOUR_MS) / DAY_MS);
      const firstHour = Math.max(0, Math.ceil((room.newest + 1 - SLOTS) / HOURS)) * HOURS;
      const hourly = new Float64Array(Math.max(0, lastDay * HOURS - firstHour));
      for (let i = 0; i < hourly.length; i++) hourly[i] = room.hours[(firstHour + i) % SLOTS]!;
      yield [name, hourly];
    }
  }
}
