/**
 * How long a result lives, by the last day that it is about: what may still change is asked again soon. Not when it
 * is invalidated, and not a clock: the time is given.
 * Invariant: the answer depends on days of the calendar in the given zone and on nothing of the machine. Hours do not
 * count, so a day that is shorter or longer by daylight saving is one day.
 */

import { isDate } from 'node:util/types';
import { InvalidArgumentError } from '../errors.js';

const OPEN_SECONDS = 60;
const RECENT_SECONDS = 300;
const SETTLED_SECONDS = 3_600;
/** Days ago, the last of them included: seven days ago is recent, eight are settled. */
const RECENT_DAYS = 7;
const MINUTE_MS = 60_000;
const DAY_MS = 1_440 * MINUTE_MS;
/** Settled in any zone, also in one that has moved across the date line since. */
const LONG_AGO_MS = 30 * DAY_MS;
/** A formatter takes room and some time to make; more zones than this begin anew. */
const MOST_ZONES = 64;

/** A day, or a day and a time, with or without its distance from UTC; also as Postgres writes it. */
const ISO =
  /^(\d{4}|[+-]\d{6})-(\d\d)-(\d\d)(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::[0-5]\d(?:[.,]\d{1,9})?)?(Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?$/;

/** What tells the days of a zone, and the day of the minute that was asked for last: the present one, as a rule. */
interface Calendar {
  readonly format: Intl.DateTimeFormat;
  minute: number;
  day: number;
}

/** By name as given. */
const calendars = new Map<string, Calendar>();

/**
 * `endDate`: a date, or a local time without an offset, is a day of the zone; a time with an offset, or a Date, is the
 * day on which that moment falls there. Missing, `null` and empty are the same.
 */
export function lifetimeSeconds(endDate: unknown, now: number, timeZone: unknown = 'UTC'): number {
  const calendar = calendarOf(timeZone);
  if (endDate === undefined || endDate === null || endDate === '') return OPEN_SECONDS;
  const age = today(now, calendar) - lastDay(endDate, now, calendar);
  if (age > RECENT_DAYS) return SETTLED_SECONDS;
  return age > 0 ? RECENT_SECONDS : OPEN_SECONDS;
}

function lastDay(endDate: unknown, now: number, calendar: Calendar): number {
  if (isDate(endDate)) {
    const moment = Date.prototype.getTime.call(endDate);
    if (Number.isNaN(moment)) throw refusedDate('the Date is invalid');
    return dayNear(moment, now, calendar);
  }
  const [text, year, month, day, hours = 0, minutes = 0, offset] = ISO.exec(textOf(endDate)) ?? [];
  const date = new Date(0);
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day));
  // A day that the month does not have is one of another month.
  if (text === undefined || date.getUTCMonth() + 1 !== Number(month)) {
    throw refusedDate(
      "it is no day such as '2026-01-31', and no ISO-8601 time such as '2026-01-31T18:00:00Z'",
    );
  }
  const midnight = date.getTime();
  if (offset === undefined) return midnight / DAY_MS;
  // Seconds do not matter: days begin with a minute everywhere.
  const local = midnight + (Number(hours) * 60 + Number(minutes)) * MINUTE_MS;
  return dayNear(local - offsetMs(offset), now, calendar);
}

function textOf(endDate: unknown): string {
  if (typeof endDate === 'string') return endDate;
  throw refusedDate(`text or a Date is expected, ${typeof endDate} was given`);
}

function offsetMs(offset: string): number {
  if (offset === 'Z') return 0;
  const [hours, minutes] = [offset.slice(1, 3), offset.slice(3).replace(':', '')];
  const ms = (Number(hours) * 60 + Number(minutes)) * MINUTE_MS;
  return offset.startsWith('-') ? -ms : ms;
}

/** The day of a moment, as far as it matters: what is later than now is today, and long ago is long ago. */
function dayNear(moment: number, now: number, calendar: Calendar): number {
  return dayOf(Math.min(now, Math.max(now - LONG_AGO_MS, moment)), calendar.format);
}

/** As `dayOf`, which takes longer than the rest of a key, for a time that many calls ask for: days begin with a minute. */
function today(now: number, calendar: Calendar): number {
  const minute = Math.floor(now / MINUTE_MS);
  if (calendar.minute !== minute) {
    calendar.day = dayOf(now, calendar.format);
    calendar.minute = minute;
  }
  return calendar.day;
}

/** Days since 1970-01-01 on the calendar of the zone. */
function dayOf(moment: number, format: Intl.DateTimeFormat): number {
  const shown = { year: 0, month: 0, day: 0 };
  for (const { type, value } of format.formatToParts(moment)) {
    if (type === 'year' || type === 'month' || type === 'day') shown[type] = Number(value);
  }
  return Date.UTC(shown.year, shown.month - 1, shown.day) / DAY_MS;
}

function calendarOf(timeZone: unknown): Calendar {
  const known = calendars.get(timeZone as string);
  if (known !== undefined) return known;
  const calendar = newCalendar(timeZone);
  if (calendars.size >= MOST_ZONES) calendars.clear();
  calendars.set(timeZone as string, calendar);
  return calendar;
}

function newCalendar(timeZone: unknown): Calendar {
  const field = 'timeZone';
  const refused = (cause?: unknown) => {
    const accepted = "the IANA name of a time zone is expected, such as 'America/New_York'";
    return new InvalidArgumentError(`${field} is not accepted: ${accepted}`, { field, cause });
  };
  // Newer runtimes take an offset for a zone; whether it is accepted must not depend on the runtime.
  if (typeof timeZone !== 'string' || /^[+-]/.test(timeZone)) throw refused();
  try {
    const parts = { timeZone, year: 'numeric', month: 'numeric', day: 'numeric' } as const;
    return { format: new Intl.DateTimeFormat('en-US', parts), minute: Number.NaN, day: Number.NaN };
  } catch (cause) {
    throw refused(cause);
  }
}

function refusedDate(why: string): InvalidArgumentError {
  const field = 'params.end_date';
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
