/**
 * Turns the result of a run into a table for a terminal of 100 columns. It computes nothing that is
 * not in the result, so the table and `--json` cannot disagree.
 * Invariant: control characters for colour appear only when asked for.
 */

const LABEL_WIDTH = 46;
const COLUMN_WIDTH = 16;
const PHASES = { uncached: 'without cache', cold: 'cache cold', warm: 'cache warm' };
const WAYS = { twice: 'as above', once: 'steps once', oneCall: 'one call' };

/** A spread of equal numbers is that number; unequal ones are shown as their range. */
const count = ({ min, max }) => (min === max ? String(min) : `${min}-${max}`);
const ms = (value) => `${value.toFixed(value < 1 ? 3 : value < 10 ? 2 : 1)} ms`;

/**
 * @param {Record<string, unknown>} result  what `measure` returned, plus the run's own facts
 * @param {{ colour: boolean }} options
 */
export function renderReport(result, { colour }) {
  const paint = (code, text) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const bold = (text) => paint('1', text);
  const dim = (text) => paint('2', text);
  const rule = dim('-'.repeat(LABEL_WIDTH + COLUMN_WIDTH * Object.keys(PHASES).length));
  const { phases, authorization, revocation } = result;

  const line = (label, cells, style = (text) => text) =>
    style(label.padEnd(LABEL_WIDTH) + cells.map((cell) => cell.padStart(COLUMN_WIDTH)).join(''));
  const row = (label, cell, style) =>
    line(
      label,
      Object.keys(PHASES).map((name) => cell(phases[name], name)),
      style,
    );
  const sql = (step, label) => row(label, (p) => count(p.statements[step]));
  const cachedOnly = (of) => (p, name) => (name === 'uncached' ? '-' : count(of(p)));

  const lines = [
    '',
    bold('One analyst opens one dashboard: 5 requests of the page, then 6 charts in parallel'),
    dim(`${result.postgres}; ${result.origin}`),
    dim(`store: ${result.store}; ${result.rows.toLocaleString('en-US')} measure rows; ${result.machine}`),
    '',
    row('', (_, name) => PHASES[name], bold),
    row('dashboards played', (p) => String(p.dashboards), dim),
    rule,
    bold('SQL statements of one dashboard'),
    sql('blacklist', '  token blacklist'),
    sql('user', '  user'),
    sql('rbac', '  roles, permissions, organizations'),
    sql('other', '  by the cache for itself'),
    row('  authentication and authorization', (p) => count(p.statements.authorization), bold),
    sql('page', "  the page's own reads"),
    row('  application database', (p) => count(p.statements.application)),
    sql('data', '  data source rows (analytics pool)'),
    row('  together', (p) => count(p.statements.total), bold),
    rule,
    row('token signatures checked', (p) => count(p.verifications)),
    row(
      'store round trips',
      cachedOnly((p) => p.roundTrips),
    ),
    row(
      'store commands',
      cachedOnly((p) => p.commands),
    ),
    rule,
    row('chart request, p50', (p) => ms(p.chartMs.p50)),
    row('chart request, p95', (p) => ms(p.chartMs.p95)),
    row('whole dashboard, p50', (p) => ms(p.dashboardMs.p50), bold),
    rule,
  ];
  lines.push('', ...authorizationLines(authorization, { line, bold, rule }));
  lines.push('', ...revocationLines(revocation, { line, bold, rule }));
  lines.push('', ...resultLines(result.results, { line, bold, rule }));
  lines.push('', ...analyticsLines(result.analytics, { line, bold, rule }));
  lines.push('', ...layerLines(result.layers, { line, bold, rule }));
  lines.push('', ...limitLines(result.limits, { line, bold, rule }));
  lines.push('', bold('Where each figure comes from'));
  for (const [figure, origin] of Object.entries(result.origins)) {
    lines.push(...wrap(`  ${figure.padEnd(16)}`, origin));
  }
  lines.push('');
  const { passed, failed } = result.checks;
  if (failed.length === 0) {
    lines.push(`${paint('32', 'every answer was right')}: ${passed} checks passed, 0 failed`);
  } else {
    lines.push(`${paint('31', 'WRONG ANSWERS')}: ${passed} checks passed, ${failed.length} failed`);
    for (const f of failed.slice(0, 20)) {
      lines.push(`  ${f.name}`, `    expected ${f.expected}`, `    given    ${f.given}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function authorizationLines(authorization, { line, bold, rule }) {
  const row = (label, cell, style) =>
    line(
      label,
      Object.keys(WAYS).map((name) => cell(authorization[name])),
      style,
    );
  return [
    bold('One authorizeRequest instead of separate steps, warm'),
    '',
    line('', Object.values(WAYS), bold),
    rule,
    row('requests authorized, one after the other', (way) => String(way.requests)),
    row('  store round trips of a request', (way) => count(way.roundTrips), bold),
    row('  SQL statements of a request', (way) => count(way.statements)),
    row('  p50', (way) => ms(way.ms.p50), bold),
    row('  p95', (way) => ms(way.ms.p95)),
    row('dashboards played, charts in parallel', (way) => String(way.dashboard.played)),
    row('  store round trips of a dashboard', (way) => count(way.dashboard.roundTrips)),
    row('  whole dashboard, p50', (way) => ms(way.dashboard.ms.p50)),
    rule,
  ];
}

function revocationLines({ call, tail }, { line, bold, rule }) {
  const played = tail.skipped === undefined;
  const row = (label, ofCall, ofTail, style) =>
    line(label, ['', ofCall(call), played ? ofTail(tail) : '-'], style);
  const lines = [
    bold('A role is taken away in Postgres'),
    '',
    line('', ['', 'one call', 'nobody calls'], bold),
    rule,
    row(
      'times it was taken away',
      (c) => String(c.rounds),
      (t) => String(t.rounds),
    ),
    row(
      'engines with the same store',
      (c) => String(c.engines),
      (t) => String(t.engines),
    ),
    row(
      'requests let in before the call',
      (c) => `${c.letInBefore} of ${c.rounds}`,
      () => '-',
    ),
    row(
      'requests let in after the call, or the commit',
      (c) => String(c.letIn),
      (t) => String(t.letIn),
    ),
    row(
      'until a request was refused, p50',
      (c) => ms(c.ms.p50),
      (t) => ms(t.ms.p50),
      bold,
    ),
    row(
      'until a request was refused, slowest',
      (c) => ms(c.ms.max),
      (t) => ms(t.ms.max),
    ),
    rule,
  ];
  const told =
    call.engines > 1
      ? 'invalidateUserContext on one engine, the request on another'
      : 'invalidateUserContext and the request on the same engine: the embedded store is not shared';
  lines.push(...wrap('one call        ', told));
  const how = played
    ? `CACHE_TAIL_ENABLED, the outbox of "bcos-cache migrate" installed for this and removed again; ` +
      `${tail.states.join(' and ')}; read at a notification, else every ${tail.pollMs} ms`
    : `not played: ${tail.skipped}`;
  lines.push(...wrap('nobody calls    ', how));
  return lines;
}

function resultLines(results, { line, bold, rule }) {
  const row = (label, cell, style) => line(label, ['', '', cell], style);
  return [
    bold(`${results.charts} charts with ${results.questions} questions, and the refresh button`),
    rule,
    row('engines with the same store', String(results.engines)),
    row('SQL statements, everybody new', String(results.cold), bold),
    row('  asked again', String(results.warm)),
    row('a row was changed: charts that show it', String(results.seenBefore)),
    row('refresh of one chart: SQL statements', String(results.refresh), bold),
    row('  charts of that question with old rows', String(results.oldAfterwards), bold),
    row('  SQL statements of them', String(results.afterwards)),
    row('data source made void: SQL statements', String(results.voided)),
    rule,
  ];
}

function analyticsLines(index, { line, bold, rule }) {
  const { targets, dashboard, scopes, refresh, ms: taken, perSecond } = index;
  const row = (label, cell, target = '', style) => line(label, ['', cell, target], style);
  const whole = (value) => Math.round(value).toLocaleString('en-US');
  const form = (label, name) =>
    row(
      `  ${label}, p50 / p95`,
      `${taken[name].p50.toFixed(2)} / ${taken[name].p95.toFixed(2)} ms`,
      `${targets.p50Ms} / ${targets.p95Ms} ms`,
    );
  const seen = Object.entries(scopes.seen).map(([who, rows]) => `${who} ${whole(rows)}`);
  return [
    bold(`The analytics index: ${whole(index.rows)} rows, ${whole(index.combinations)} combinations`),
    '',
    line('', ['', 'measured', "plan's target"], bold),
    rule,
    row('engines with the same store', String(index.engines)),
    row('warmed from Postgres in', ms(index.warmMs), `${targets.warmSeconds} s for 1M`, bold),
    row('  frames', whole(index.frames)),
    row('  bytes of frames / of the index', `${whole(index.dataBytes)} / ${whole(index.indexBytes)}`),
    row(`dashboard of ${dashboard.charts} charts, ${whole(dashboard.rows)} rows`, ms(dashboard.ms)),
    row('  SQL statements, warm', String(dashboard.statements), '', bold),
    row("one chart of the analyst's, as", ''),
    form('rows', 'rows'),
    form('columns', 'columns'),
    form('text of a response', 'json'),
    form('sums by month', 'aggregate'),
    row(
      `one practice, ${100} callers: sums by month`,
      `${whole(perSecond.aggregate)} /s`,
      `${targets.perSecond} /s`,
    ),
    row('  rows', `${whole(perSecond.rows)} /s`, `${targets.perSecond} /s`),
    row('answered from the index', `${index.hitPercent} %`, `${targets.hitPercent} %`),
    row(`refreshed ${refresh.rounds} times while ${refresh.readers} read, p50`, ms(refresh.ms.p50)),
    row(
      `  of ${whole(refresh.answers)} answers, mixtures of two generations`,
      String(refresh.mixtures),
      '',
      bold,
    ),
    row('  older than one before', String(refresh.steps)),
    rule,
    ...wrap(
      'same question   ',
      `${scopes.measure}, ${scopes.frequency}, ${whole(scopes.of)} rows in Postgres; rows that each sees: ${seen.join(', ')}`,
    ),
  ];
}

function layerLines(layers, { line, bold, rule }) {
  const title = bold('One dashboard of nine figures, from three layers');
  if (layers.skipped !== undefined) return [title, ...wrap('not played      ', layers.skipped)];
  const row = (label, { p50, p95 }, style) => line(label, ['', ms(p50), ms(p95)], style);
  return [
    title,
    '',
    line('', ['', 'p50', 'p95'], bold),
    rule,
    row('nine queries in one statement', layers.queries),
    row('materialized view', layers.layers.view),
    row('store', layers.layers.store, bold),
    line('refresh of the view, and nobody sees old figures', ['', '', ms(layers.refreshed.ms)]),
    rule,
  ];
}

function limitLines(limits, { line, bold, rule }) {
  const { outage } = limits;
  const row = (label, cell, style) => line(label, ['', '', cell], style);
  const at = limits.engines > 1 ? `${limits.engines} engines at once` : 'one engine';
  const lines = [
    bold(`A visitor sends ${limits.burst} requests over a limit of ${limits.limit} a minute, to ${at}`),
    rule,
    row('admitted', String(limits.admitted), bold),
    row(`store commands of ${limits.repeats} more`, String(limits.commands)),
  ];
  if (outage.skipped === undefined) {
    lines.push(
      row('another visitor, the store stopped: admitted', String(outage.admitted), bold),
      row('  first answer', ms(outage.firstMs)),
      row('  answers afterwards, p50', ms(outage.ms.p50)),
      row('  with the store back: admitted in all', String(outage.total), bold),
    );
  }
  lines.push(rule);
  if (limits.engines === 1) {
    lines.push(...wrap('one engine      ', `the embedded store is not shared. ${limits.alone}`));
  } else if (outage.skipped !== undefined) {
    lines.push(...wrap('outage          ', `not played: ${outage.skipped}`));
  }
  return lines;
}

/** Breaks `text` into lines of at most 98 columns, indented under `head`. */
function wrap(head, text) {
  const lines = [];
  let line = head;
  let empty = true;
  for (const word of text.split(' ')) {
    if (!empty && line.length + 1 + word.length > 98) {
      lines.push(line);
      line = ' '.repeat(head.length);
      empty = true;
    }
    line += empty ? word : ` ${word}`;
    empty = false;
  }
  return [...lines, line];
}
