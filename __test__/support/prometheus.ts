/**
 * A strict reader of the Prometheus exposition text (format 0.0.4): what a scraper would refuse is an error here.
 * Invariant: every sample belongs to a family that was announced before it, and no series comes twice.
 */

type Labels = Readonly<Record<string, string>>;

export interface Histogram {
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
  readonly count: number;
}

export interface Exposition {
  /** Of one series; throws when there is none. */
  value(name: string, labels?: Labels): number;
  readonly histograms: readonly Histogram[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)/g;

function labelsOf(text: string): Labels {
  const labels: Record<string, string> = {};
  let read = 0;
  for (const match of text.matchAll(LABEL)) {
    if (match.index !== read) break;
    read += match[0].length;
    labels[match[1] ?? ''] = match[2] ?? '';
  }
  if (read !== text.length) throw new Error(`labels that cannot be read: ${text}`);
  return labels;
}

function numberOf(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  const value = Number(text);
  if (text === '' || Number.isNaN(value)) throw new Error(`not a number: ${text}`);
  return value;
}

const keyOf = (name: string, labels: Labels) => JSON.stringify([name, Object.entries(labels).sort()]);

export function parsePrometheus(text: string): Exposition {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const series = new Map<string, number>();
  const buckets = new Map<string, { le: number; count: number }[]>();
  for (const line of text.slice(0, -1).split('\n')) {
    const [, keyword, family, rest] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (keyword === 'HELP' && family !== undefined) {
      if (helped.has(family)) throw new Error(`HELP twice: ${family}`);
      helped.add(family);
    } else if (keyword === 'TYPE' && family !== undefined && rest !== undefined) {
      if (types.has(family) || !/^(counter|gauge|histogram)$/.test(rest))
        throw new Error(`bad TYPE: ${line}`);
      types.set(family, rest);
    } else {
      const [, name, inside, value] = SAMPLE.exec(line) ?? [];
      if (name === undefined || value === undefined) throw new Error(`not a sample: ${line}`);
      const labels = labelsOf(inside ?? '');
      const base = name.replace(/_(bucket|sum|count)$/, '');
      const known = types.get(name) ?? (types.get(base) === 'histogram' ? 'histogram' : undefined);
      if (known === undefined) throw new Error(`no TYPE before ${line}`);
      if (known === 'counter' && !name.endsWith('_total'))
        throw new Error(`a counter without _total: ${name}`);
      const key = keyOf(name, labels);
      if (series.has(key)) throw new Error(`twice: ${line}`);
      series.set(key, numberOf(value));
      if (name === `${base}_bucket`) {
        const { le = '', ...others } = labels;
        const group = keyOf(`${base}_count`, others);
        buckets.set(group, [...(buckets.get(group) ?? []), { le: numberOf(le), count: numberOf(value) }]);
      }
    }
  }
  return {
    value(name, labels = {}) {
      const value = series.get(keyOf(name, labels));
      if (value === undefined) throw new Error(`no series ${keyOf(name, labels)}`);
      return value;
    },
    histograms: [...buckets].map(([group, of]) => ({ buckets: of, count: series.get(group) ?? Number.NaN })),
  };
}
