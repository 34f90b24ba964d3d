/**
 * The optional migration, filled with names, and the two statements that read and prune what it writes. Not the
 * product's way of filling them in: that is Rust's, with names it has checked, and behind the command of an operator.
 * Invariant: every placeholder of a text is replaced, or filling it fails.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import type { Database } from './database.js';

const run = promisify(execFile);

/** The command an operator types. */
export async function migrate({ url }: Pick<Database, 'url'>, ...more: string[]): Promise<void> {
  const program = join(__dirname, '../../bin/bcos-cache.mjs');
  const env = { PATH: process.env['PATH'], DATABASE_URL: url };
  await run(process.execPath, [program, 'migrate', '--apply', ...more], { env });
}

const read = (...path: string[]): string => readFileSync(join(__dirname, ...path), 'utf8');
const TEMPLATES = '../../crates/core/src/source/migration';
const STATEMENTS = '../../crates/core/src/source/outbox';

/** What an application calls a table, and those columns that it calls differently. */
export interface MappedTable {
  schema?: string;
  table?: string;
  columns?: Record<string, string>;
}
export type Mapping = Record<string, MappedTable>;

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

function fill(template: string, mapping: Mapping): string {
  const text = template.replace(/\{(\w+)(?:\.(\w+))?\}/g, (_, table: string, column?: string) => {
    const mapped = mapping[table] ?? {};
    if (column !== undefined) return quoted(mapped.columns?.[column] ?? column);
    return `${quoted(mapped.schema ?? 'public')}.${quoted(mapped.table ?? table)}`;
  });
  if (/[{}]/.test(text)) throw new Error('a brace that is not a placeholder');
  return text;
}

export const installSql = (mapping: Mapping = {}): string => fill(read(TEMPLATES, 'install.sql'), mapping);
export const removeSql = (): string => fill(read(TEMPLATES, 'remove.sql'), {});
export const tailSql = (mapping: Mapping = {}): string => fill(read(STATEMENTS, 'poll.sql'), mapping);
export const pruneSql = (): string => fill(read(STATEMENTS, 'prune.sql'), {});

/** `kind ref`, or the kind alone. */
export type Note = string;

const note = (row: { kind: string; ref: string }): Note => `${row.kind} ${row.ref}`.trim();

type Queries = Pick<pg.ClientBase, 'query'>;

/** All rows of the outbox, sorted; and forgets them. */
export async function takeNotes(client: Queries): Promise<Note[]> {
  const { rows } = await client.query<{ kind: string; ref: string }>(
    'DELETE FROM bcos_cache.outbox RETURNING kind, ref',
  );
  return rows.map(note).sort();
}

interface Answer {
  snapshot: string | null;
  server: string;
  now_ms: string;
  reset: boolean;
  kinds: string[];
  refs: string[];
}

/** A reader of the outbox with its place in it. */
export class Tail {
  snapshot: string | null = null;
  server: string | null = null;
  /** Of the last answer. */
  nowMs = 0;
  reset = false;
  readonly #sql: string;

  constructor(
    private readonly client: Queries,
    mapping: Mapping = {},
  ) {
    this.#sql = tailSql(mapping);
  }

  /** A reader that has read everything there is. */
  static async atEnd(client: Queries): Promise<Tail> {
    const tail = new Tail(client);
    await tail.read();
    return tail;
  }

  /** What was committed since the last call, sorted. */
  async read(): Promise<Note[]> {
    const { rows } = await this.client.query<Answer>({
      name: 'tail',
      text: this.#sql,
      values: [this.snapshot, this.server],
    });
    const [answer] = rows;
    if (answer === undefined || rows.length !== 1) throw new Error('the tail answers one row');
    this.snapshot = answer.snapshot;
    this.server = answer.server;
    this.nowMs = Number(answer.now_ms);
    this.reset = answer.reset;
    return answer.kinds.map((kind, index) => note({ kind, ref: answer.refs[index] ?? '?' })).sort();
  }
}
