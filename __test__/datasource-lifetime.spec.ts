/**
 * How long a result lives, by its last day on the calendar of a zone: known days, and thousands of random moments
 * around midnight and around changes of daylight saving, counted by a calendar on paper. Not when a result is
 * invalidated. `BCOS_SEED` chooses another series.
 */
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import { lifetimeSeconds } from '../lib/datasource/lifetime.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_264);
const [OPEN, RECENT, SETTLED] = [60, 300, 3_600];
const [MINUTE_MS, HOUR_MS, DAY_MS] = [60_000, 3_600_000, 86_400_000];
const NOW = Date.parse('2026-06-15T12:00:00Z');

const invalid = (field: string) => expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field });

describe('by the day', () => {
  it.each<[endDate: unknown, seconds: number]>([
    [undefined, OPEN],
    [null, OPEN],
    ['', OPEN],
    ['2026-06-15', OPEN],
    ['2026-06-16', OPEN],
    ['2027-01-01', OPEN],
    ['9999-12-31', OPEN],
    ['2026-06-14', RECENT],
    ['2026-06-09', RECENT],
    ['2026-06-08', RECENT],
    ['2026-06-07', SETTLED],
    ['2025-06-15', SETTLED],
    ['2024-02-29', SETTLED],
    ['2000-02-29', SETTLED],
    ['0001-01-01', SETTLED],
    ['0000-02-29', SETTLED],
    ['+012026-06-15', OPEN],
    ['-012026-06-15', SETTLED],
    ['2026-06-15T00:00:00', OPEN],
    ['2026-06-15T23:59:59.999', OPEN],
    ['2026-06-14T23:59:59.999999999', RECENT],
    ['2026-06-14 23:59', RECENT],
    ['2026-06-15T00:00:00Z', OPEN],
    ['2026-06-14T23:59:59.999Z', RECENT],
    ['2026-06-08T00:00Z', RECENT],
    ['2026-06-07T23:59:59,9Z', SETTLED],
    ['2026-06-15T01:00:00+02:00', RECENT],
    ['2026-06-15T01:00:00+0200', RECENT],
    ['2026-06-15 01:00:00+02', RECENT],
    ['2026-06-15 01:00:00.123456+00', OPEN],
    ['2026-06-14T23:30:00-00:30', OPEN],
    ['2026-06-14T23:29:59-00:30', RECENT],
    ['2026-06-08T05:29:00+05:30', SETTLED],
    ['2026-06-08T05:30:00+05:30', RECENT],
    [new Date('2026-06-15T00:00:00Z'), OPEN],
    [new Date('2026-06-14T23:59:59.999Z'), RECENT],
    [new Date('2026-06-07T23:59:59.999Z'), SETTLED],
    [new Date(8.64e15), OPEN],
    [new Date(-8.64e15), SETTLED],
    [new Date(8.64e15).toISOString(), OPEN],
    [new Date(-8.64e15).toISOString(), SETTLED],
    [runInNewContext(`new Date(${NOW - DAY_MS})`), RECENT],
  ])('%s lives %i s', (endDate, seconds) => {
    expect(lifetimeSeconds(endDate, NOW)).toBe(seconds);
  });

  it.each<[what: string, zone: string, endDate: unknown, before: number, midnight: string, after: number]>([
    ['today ends', 'UTC', '2026-06-15', OPEN, '2026-06-16T00:00:00Z', RECENT],
    ['the week ends', 'UTC', '2026-06-08', RECENT, '2026-06-16T00:00:00Z', SETTLED],
    ['today ends west', 'America/New_York', '2026-06-15', OPEN, '2026-06-16T04:00:00Z', RECENT],
    ['today ends east', 'Asia/Kolkata', '2026-06-15', OPEN, '2026-06-15T18:30:00Z', RECENT],
    ['tomorrow begins far east', 'Pacific/Kiritimati', '2026-06-15', OPEN, '2026-06-15T10:00:00Z', RECENT],
    ['a day of 23 hours begins', 'America/New_York', '2026-03-07', OPEN, '2026-03-08T05:00:00Z', RECENT],
    ['a day of 23 hours ends', 'America/New_York', '2026-03-08', OPEN, '2026-03-09T04:00:00Z', RECENT],
    ['the week has 167 hours', 'America/New_York', '2026-03-02', RECENT, '2026-03-10T04:00:00Z', SETTLED],
    ['a day of 25 hours ends', 'America/New_York', '2026-11-01', OPEN, '2026-11-02T05:00:00Z', RECENT],
    ['the week has 169 hours', 'America/New_York', '2026-10-26', RECENT, '2026-11-03T05:00:00Z', SETTLED],
    ['a day of 23 hours ends in Europe', 'Europe/Berlin', '2026-03-29', OPEN, '2026-03-29T22:00:00Z', RECENT],
    ['a day without midnight begins', 'America/Havana', '2026-03-07', OPEN, '2026-03-08T05:00:00Z', RECENT],
    ['half an hour is saved', 'Australia/Lord_Howe', '2026-04-05', OPEN, '2026-04-05T13:30:00Z', RECENT],
    // Samoa had no 30 December: the calendar went on by two days.
    ['a day is left out', 'Pacific/Apia', '2011-12-29', OPEN, '2011-12-30T10:00:00Z', RECENT],
    ['a day of the week is left out', 'Pacific/Apia', '2011-12-23', RECENT, '2011-12-30T10:00:00Z', SETTLED],
    [
      'a moment is a day of the zone',
      'Asia/Tokyo',
      '2026-06-14T15:00:00Z',
      OPEN,
      '2026-06-15T15:00:00Z',
      RECENT,
    ],
    ['a moment before that', 'Asia/Tokyo', '2026-06-14T14:59:59.999Z', OPEN, '2026-06-14T15:00:00Z', RECENT],
    ['a local time stays in its day', 'Asia/Tokyo', '2026-06-14T23:59', OPEN, '2026-06-14T15:00:00Z', RECENT],
    ['a Date too', 'Asia/Tokyo', new Date('2026-06-14T15:00Z'), OPEN, '2026-06-15T15:00:00Z', RECENT],
  ])('%s: %s, %s', (_, zone, endDate, before, midnight, after) => {
    const at = Date.parse(midnight);
    expect([at - 1, at, at + 1].map((now) => lifetimeSeconds(endDate, now, zone))).toEqual([
      before,
      after,
      after,
    ]);
  });

  it('says UTC when nothing is said, however zones are written', () => {
    const now = Date.parse('2026-06-15T23:59:00Z');
    for (const zone of [undefined, 'UTC', 'utc', 'Etc/UTC', 'GMT']) {
      expect(lifetimeSeconds('2026-06-15', now, zone)).toBe(OPEN);
      expect(lifetimeSeconds('2026-06-15', now + MINUTE_MS, zone)).toBe(RECENT);
    }
  });
});

describe('what is refused', () => {
  it.each<[what: string, endDate: unknown]>([
    ['a word', 'yesterday'],
    ['blanks', ' '],
    ['blanks around it', ' 2026-06-15'],
    ['a line after it', '2026-06-15\n'],
    ['30 February', '2026-02-30'],
    ['29 February of another year', '2026-02-29'],
    ['29 February of a century', '1900-02-29'],
    ['31 April', '2026-04-31'],
    ['day 0', '2026-04-00'],
    ['day 32', '2026-01-32'],
    ['month 0', '2026-00-10'],
    ['month 13', '2026-13-01'],
    ['a month', '2026-06'],
    ['a year', '2026'],
    ['one digit', '2026-6-15'],
    ['slashes', '2026/06/15'],
    ['the American way', '06/15/2026'],
    ['no signs between', '20260615'],
    ['a year of five digits', '12026-06-15'],
    ['a year that no Date has', '+999999-01-01'],
    ['hour 24', '2026-06-15T24:00:00'],
    ['minute 60', '2026-06-15T10:60:00Z'],
    ['second 60', '2026-06-15T23:59:60Z'],
    ['no minutes', '2026-06-15T10Z'],
    ['an offset without a time', '2026-06-15Z'],
    ['an offset of a day', '2026-06-15T10:00:00+24:00'],
    ['an offset of 60 minutes', '2026-06-15T10:00:00+01:60'],
    ['a zone behind it', '2026-06-15T10:00:00[Europe/Berlin]'],
    ['infinity', 'infinity'],
    ['milliseconds', NOW],
    ['zero', 0],
    ['NaN', Number.NaN],
    ['false', false],
    ['a list', ['2026-06-15']],
    ['an object', { toString: () => '2026-06-15', getTime: () => NOW }],
    ['an invalid Date', new Date('x')],
    ['a Date of text', new String('2026-06-15')],
  ])('%s as a date', (_, endDate) => {
    expect(() => lifetimeSeconds(endDate, NOW)).toThrow(invalid('params.end_date'));
    expect(() => lifetimeSeconds(endDate, NOW, 'America/New_York')).toThrow(
      /^params\.end_date is not accepted: /,
    );
  });

  it.each<[what: string, zone: unknown]>([
    ['one that is unknown', 'Europe/Atlantis'],
    ['nothing in it', ''],
    ['null', null],
    ['a number', 2],
    ['an offset', '+02:00'],
    ['another offset', '-0800'],
    ['a list', ['UTC']],
    ['what everything inherits', 'constructor'],
  ])('%s as a zone, also when there is no date', (_, zone) => {
    for (const endDate of [undefined, '2026-06-15', 'yesterday']) {
      expect(() => lifetimeSeconds(endDate, NOW, zone)).toThrow(invalid('timeZone'));
    }
    expect(() => lifetimeSeconds(undefined, NOW, zone)).toThrow(/IANA.*America\/New_York/);
  });

  it('a time that is none is no reason to keep anything for long', () => {
    expect(() => lifetimeSeconds('2020-01-01', Number.NaN)).toThrow(RangeError);
  });
});

describe('the cost', () => {
  const real = Intl.DateTimeFormat;
  afterEach(() => {
    Intl.DateTimeFormat = real;
  });

  it('is one formatter per zone, of not too many zones at a time', () => {
    let made = 0;
    Intl.DateTimeFormat = new Proxy(real, {
      construct: (target, given) => {
        made += 1;
        return Reflect.construct(target, given);
      },
    });
    for (let round = 0; round < 100; round += 1) {
      lifetimeSeconds('2026-06-15', NOW, 'America/Lima');
      lifetimeSeconds(new Date(NOW), NOW, 'America/Bogota');
    }
    expect(made).toBe(2);
    const others = Intl.supportedValuesOf('timeZone').filter((zone) => /^(?:Africa|Asia)\//.test(zone));
    for (const zone of others) lifetimeSeconds('', NOW, zone);
    expect(made).toBe(2 + others.length);
    lifetimeSeconds('2026-06-15', NOW, 'America/Lima');
    expect(made).toBe(3 + others.length);
  });
});

/** Of both hemispheres, with fractions of hours, at the ends of the earth, and with changes at midnight. */
const ZONES = [
  ...[
    'UTC',
    'America/New_York',
    'America/St_Johns',
    'America/Sao_Paulo',
    'America/Havana',
    'America/Santiago',
  ],
  ...['Europe/Berlin', 'Europe/London', 'Africa/Casablanca', 'Asia/Beirut', 'Asia/Tehran', 'Asia/Kolkata'],
  ...['Asia/Kathmandu', 'Australia/Lord_Howe', 'Australia/Sydney', 'Pacific/Chatham', 'Pacific/Apia'],
  ...['Pacific/Kiritimati', 'Pacific/Niue', 'Pacific/Kwajalein', 'Etc/GMT+12', 'Etc/GMT-14'],
];
/** Changes of some of them. */
const CHANGES = [
  ...[
    '2026-03-08T07:00Z',
    '2026-11-01T06:00Z',
    '2026-03-29T01:00Z',
    '2026-10-25T01:00Z',
    '2026-04-04T15:00Z',
  ],
  ...[
    '2026-10-03T15:30Z',
    '2011-12-30T10:00Z',
    '1993-08-21T12:00Z',
    '2018-11-04T03:00Z',
    '2026-09-06T04:00Z',
  ],
  ...['2028-02-29T12:00Z', '2026-12-31T23:00Z'],
].map((text) => Date.parse(text));

describe.each([undefined, 'America/New_York', 'Pacific/Kiritimati', 'Pacific/Niue', 'Asia/Kathmandu'])(
  'on a machine in %s',
  (machine) => {
    const own = process.env['TZ'];
    afterEach(() => setZone(own));

    it('agrees with a calendar on paper', () => {
      setZone(machine);
      if (machine !== undefined) {
        expect(new Date(NOW).getTimezoneOffset()).not.toBe(0);
      }
      const random = new Random(SEED, machine?.length ?? 0);
      const counts = new Map<number, number>();
      for (let round = 0; round < rounds(20_000, 2_000); round += 1) {
        const zone = random.of(ZONES);
        const now = anyNow(random, zone);
        const [endDate, day] = anyEnd(random, zone, now);
        const expected = onPaper(dayIn(zone, now), day);
        const seconds = lifetimeSeconds(endDate, now, zone);
        counts.set(expected, (counts.get(expected) ?? 0) + 1);
        if (seconds === expected) continue;
        const shown = JSON.stringify({ zone, now: new Date(now), endDate, day });
        throw new Error(`seed ${SEED}, round ${round}: ${seconds} instead of ${expected} for ${shown}`);
      }
      for (const seconds of [OPEN, RECENT, SETTLED]) expect(counts.get(seconds)).toBeGreaterThan(200);
    });
  },
);

function setZone(zone: string | undefined): void {
  if (zone === undefined) delete process.env['TZ'];
  else process.env['TZ'] = zone;
}

function onPaper(today: string, end: string): number {
  if (end >= today) return OPEN;
  let day = today;
  for (let back = 0; back < 7; back += 1) {
    day = dayBefore(day);
    if (day === end) return RECENT;
  }
  return SETTLED;
}

function dayBefore(text: string): string {
  const [year = 0, month = 0, day = 0] = text.split('-').map(Number);
  if (day > 1) return dateOf(year, month, day - 1);
  if (month === 1) return dateOf(year - 1, 12, 31);
  const leap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
  const days = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
  return dateOf(year, month - 1, days[month - 2] ?? 0);
}

function dateOf(year: number, month: number, day: number): string {
  return `${year}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}`;
}

const written = new Map(
  ZONES.map((timeZone) => [timeZone, new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short' })]),
);

/** As Swedes write it: 2026-06-15. */
function dayIn(zone: string, moment: number): string {
  return written.get(zone)?.format(moment) ?? '';
}

/** More often than not close to midnight of the zone, or to a change of some zone. */
function anyNow(random: Random, zone: string): number {
  const anywhere = Date.UTC(1990 + random.upTo(60), random.upTo(11), 1 + random.upTo(27), random.upTo(23));
  const around = random.chance(0.7) ? random.of(CHANGES) + (random.upTo(20) - 10) * DAY_MS : anywhere;
  if (random.chance(0.3)) return around + random.upTo(2 * DAY_MS) - DAY_MS;
  return midnightAfter(zone, around) + random.of([-HOUR_MS, -1_000, -1, 0, 1, 1_000, HOUR_MS]);
}

/** The first moment of the next day, by trying. */
function midnightAfter(zone: string, moment: number): number {
  const day = dayIn(zone, moment);
  let [before, after] = [moment, moment + 50 * HOUR_MS];
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2);
    if (dayIn(zone, middle) === day) before = middle;
    else after = middle;
  }
  return after;
}

/** An end in any of the forms, and its day. */
function anyEnd(random: Random, zone: string, now: number): [endDate: unknown, day: string] {
  const about = now - (random.upTo(13) - 3) * DAY_MS;
  const midnight = midnightAfter(zone, about) + random.of([-HOUR_MS, -1_000, -1, 0, 1, HOUR_MS]);
  const moment = random.chance(0.5) ? midnight : about + random.upTo(DAY_MS);
  const day = dayIn(zone, moment);
  const time = new Date(random.upTo(DAY_MS - 1)).toISOString().slice(11, -1);
  const offset = (random.upTo(56) - 28) * 30;
  switch (random.upTo(5)) {
    case 0:
      return [day, day];
    case 1:
      return [`${day}${random.of(['T', ' '])}${random.of([time, time.slice(0, 8), time.slice(0, 5)])}`, day];
    case 2:
      return [new Date(moment), day];
    case 3:
      return [new Date(moment).toISOString(), day];
    default: {
      const local = new Date(moment + offset * MINUTE_MS).toISOString().slice(0, -1);
      const [hours, minutes] = [Math.trunc(Math.abs(offset) / 60), Math.abs(offset) % 60];
      const two = (value: number) => String(value).padStart(2, '0');
      const far = `${offset < 0 ? '-' : '+'}${two(hours)}${random.of([':', ''])}${two(minutes)}`;
      return [`${local.replace('T', random.of(['T', ' ']))}${far}`, day];
    }
  }
}
