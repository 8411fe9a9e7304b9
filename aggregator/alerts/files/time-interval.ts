/** From and to, both included. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** One entry of a named time interval, as Alertmanager has them: every part that is given must hold. */
export interface TimeSpec {
  /** Minutes of the day; the end is not included. */
  readonly times: readonly Span[];
  /** 0 is Sunday. */
  readonly weekdays: readonly Span[];
  /** 1 to 31; negative ones count from the end of the month. */
  readonly daysOfMonth: readonly Span[];
  /** 1 to 12. */
  readonly months: readonly Span[];
  readonly years: readonly Span[];
  /** An IANA time zone. */
  readonly location: string;
}

const WEEKDAYS = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'];
const MONTHS = [
  ...['january', 'february', 'march', 'april', 'may', 'june'],
  ...['july', 'august', 'september', 'october', 'november', 'december'],
];

/** `monday:friday` or `sunday`; undefined where it is none. */
export function parseWeekdays(text: string): Span | undefined {
  return parseSpan(text, 0, 6, (part) => indexIn(WEEKDAYS, part));
}

/** `january:march`, `5` or `2:4`; undefined where it is none. */
export function parseMonths(text: string): Span | undefined {
  return parseSpan(text, 1, 12, (part) => {
    const named = indexIn(MONTHS, part);
    return named === undefined ? integer(part) : named + 1;
  });
}

export function parseYears(text: string): Span | undefined {
  return parseSpan(text, 1970, 9999, integer);
}

/** `1:5` or `-3:-1`; both ends count from the same end of the month. */
export function parseDaysOfMonth(text: string): Span | undefined {
  const span = parseSpan(text, -31, 31, integer);
  if (span === undefined || span.from === 0 || span.to === 0 || span.from < 0 !== span.to < 0)
    return undefined;
  return span;
}

/** `HH:MM` to `24:00`, in minutes; undefined where it is none. */
export function parseMinute(text: string): number | undefined {
  const match = /^(\d{2}):(\d{2})$/.exec(text);
  if (match === null) return undefined;
  const minute = Number(match[1]) * 60 + Number(match[2]);
  return Number(match[2]) < 60 && minute <= 24 * 60 ? minute : undefined;
}

/** Throws RangeError for a time zone that is not known. */
export function checkLocation(location: string): void {
  formatOf(location);
}

/** Whether a moment lies in any of the entries. */
export function isWithin(specs: readonly TimeSpec[], atMs: number): boolean {
  return specs.some((spec) => contains(spec, atMs));
}

function contains(spec: TimeSpec, atMs: number): boolean {
  const now = wallClock(spec.location, atMs);
  const monthDays = new Date(Date.UTC(now.year, now.month, 0)).getUTCDate();
  return (
    (spec.times.length === 0 || spec.times.some(({ from, to }) => now.minute >= from && now.minute < to)) &&
    holds(spec.weekdays, now.weekday) &&
    (spec.daysOfMonth.length === 0 || spec.daysOfMonth.some((span) => isDay(span, now.day, monthDays))) &&
    holds(spec.months, now.month) &&
    holds(spec.years, now.year)
  );
}

function holds(spans: readonly Span[], value: number): boolean {
  return spans.length === 0 || spans.some(({ from, to }) => value >= from && value <= to);
}

function isDay({ from, to }: Span, day: number, monthDays: number): boolean {
  const start = from < 0 ? monthDays + 1 + from : from;
  const end = to < 0 ? monthDays + 1 + to : to;
  return day >= Math.max(1, start) && day <= Math.min(monthDays, end);
}

interface WallClock {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly weekday: number;
  readonly minute: number;
}

/** One for each time zone: making one takes longer than using it a hundred times. There are about 600 zones. */
const FORMATS = new Map<string, Intl.DateTimeFormat>();

function formatOf(location: string): Intl.DateTimeFormat {
  let format = FORMATS.get(location);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      ...{ timeZone: location, hourCycle: 'h23', weekday: 'long', year: 'numeric', month: 'numeric' },
      ...{ day: 'numeric', hour: 'numeric', minute: 'numeric' },
    });
    FORMATS.set(location, format);
  }
  return format;
}

function wallClock(location: string, atMs: number): WallClock {
  const parts = new Map(
    formatOf(location)
      .formatToParts(atMs)
      .map(({ type, value }) => [type, value]),
  );
  const number = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.get(type));
  return {
    year: number('year'),
    month: number('month'),
    day: number('day'),
    weekday: WEEKDAYS.indexOf(parts.get('weekday')!.toLowerCase()),
    minute: number('hour') * 60 + number('minute'),
  };
}

function parseSpan(
  text: string,
  min: number,
  max: number,
  read: (part: string) => number | undefined,
): Span | undefined {
  const parts = text.toLowerCase().split(':');
  const from = read(parts[0]!.trim());
  const to = read((parts[1] ?? parts[0]!).trim());
  if (parts.length > 2 || from === undefined || to === undefined) return undefined;
  return from <= to && from >= min && to <= max ? { from, to } : undefined;
}

function indexIn(names: readonly string[], part: string): number | undefined {
  const index = names.indexOf(part);
  return index < 0 ? undefined : index;
}

function integer(part: string): number | undefined {
  return /^-?\d{1,4}$/.test(part) ? Number(part) : undefined;
}
