/**
 * Turns the result of a run into a table for a terminal of 100 columns. It computes nothing that is
 * not in the result, so the table and `--json` cannot disagree.
 * Invariant: control characters for colour appear only when asked for.
 */

const LABEL_WIDTH = 46;
const COLUMN_WIDTH = 16;
const PHASES = ['uncached', 'cold', 'warm'];

/** A spread of equal numbers is that number; unequal ones are shown as their range. */
const count = ({ min, max }) => (min === max ? String(min) : `${min}-${max}`);
const ms = (value) => `${value.toFixed(value < 10 ? 2 : 1)} ms`;

/**
 * @param {Record<string, unknown>} result  what `measure` returned, plus the run's own facts
 * @param {{ colour: boolean }} options
 */
export function renderReport(result, { colour }) {
  const paint = (code, text) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const bold = (text) => paint('1', text);
  const dim = (text) => paint('2', text);
  const rule = dim('-'.repeat(LABEL_WIDTH + COLUMN_WIDTH * PHASES.length));
  const { phases, notYetCached } = result;

  const row = (label, cell, style = (text) => text) =>
    style(
      label.padEnd(LABEL_WIDTH) +
        PHASES.map((name) => cell(phases[name], name).padStart(COLUMN_WIDTH)).join(''),
    );
  const sql = (step, label) =>
    row(label, (p, name) => {
      const open = name !== 'uncached' && notYetCached[step];
      return `${open ? '* ' : ''}${count(p.statements[step])}`;
    });
  const cachedOnly = (of) => (p, name) => (name === 'uncached' ? '-' : count(of(p)));

  const lines = [
    '',
    bold('One analyst opens one dashboard: 5 requests of the page, then 6 charts in parallel'),
    dim(`${result.postgres}; ${result.origin}`),
    dim(`store: ${result.store}; ${result.rows.toLocaleString('en-US')} measure rows; ${result.machine}`),
    '',
    row('', (_, name) => ({ uncached: 'without cache', cold: 'cache cold', warm: 'cache warm' })[name], bold),
    row('dashboards played', (p) => String(p.dashboards), dim),
    rule,
    bold('SQL statements of one dashboard'),
    sql('blacklist', '  token blacklist'),
    sql('user', '  user'),
    sql('rbac', '  roles, permissions, organizations'),
    sql('page', "  the page's own reads"),
    sql('other', '  by the cache for itself'),
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
  const open = Object.entries(notYetCached);
  if (open.length > 0) {
    lines.push('* not cached yet, so the application sends the same SQL as without the cache:');
    const label = {
      rbac: 'roles, permissions, organizations',
      data: 'data source rows',
      page: "the page's own reads",
    };
    for (const [step, why] of open) {
      lines.push(`    ${label[step]}: ${why.includes(' ') ? why : `this version has no ${why}()`}`);
    }
  }
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

/**
 * Progress on stderr: one line that rewrites itself on a terminal, plain lines elsewhere.
 * @param {NodeJS.WriteStream} stream
 */
export function createProgress(stream) {
  let open = false;
  let last = '';
  return {
    /** @param {string} text @param {{ done: number, total: number }} [of] */
    say(text, of) {
      if (stream.isTTY) {
        const share = of ? ` ${of.done.toLocaleString('en-US')} / ${of.total.toLocaleString('en-US')}` : '';
        stream.write(`\r\u001b[2K${text}${share}`);
        open = true;
      } else if (text !== last) {
        stream.write(`${text}\n`);
      }
      last = text;
    },
    /** Leaves the terminal clean for what follows. */
    done() {
      if (open) stream.write('\r\u001b[2K');
      open = false;
    },
  };
}
