/** The databases that other specs rely on do what their types promise. Needs no product code. */
import { execFile } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Pgbouncer, type PostgresServer, startPgbouncer, startPostgres } from './index.mjs';

/** Whether a promise settles within the time. */
async function settles(promise: Promise<unknown>, withinMs: number): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, sleep(withinMs, false)]);
}

/** Runs statements one after the other over one connection of its own. */
async function asked(
  config: pg.ClientConfig,
  ...statements: (string | pg.QueryConfig)[]
): Promise<Record<string, unknown>[][]> {
  const client = new pg.Client(config);
  try {
    await client.connect();
    const answers: Record<string, unknown>[][] = [];
    for (const sql of statements) answers.push((await client.query<Record<string, unknown>>(sql)).rows);
    return answers;
  } finally {
    await client.end();
  }
}

describe('PostgreSQL', () => {
  let postgres: PostgresServer;
  beforeAll(async () => {
    postgres = await startPostgres();
  }, 60_000);
  afterAll(() => postgres?.stop());

  it('answers queries and creates databases', async () => {
    expect(await postgres.query('SELECT $1::int + 1 AS sum', [41])).toEqual([{ sum: 42 }]);
    const url = await postgres.createDatabase('odd "name"');
    expect(url).toBe(`postgres://postgres@127.0.0.1:${postgres.port}/odd%20%22name%22`);
    await postgres.query('CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)');
  });

  it('pauses open connections too', async () => {
    await postgres.pause();
    const rows = postgres.query('SELECT 1 AS one');
    expect(await settles(rows, 150)).toBe(false);
    await postgres.resume();
    expect(await rows).toEqual([{ one: 1 }]);
  });

  it('comes back with its data after a kill', async () => {
    const hanging = postgres.query('SELECT pg_sleep(60)').then(
      () => 'done',
      () => 'failed',
    );
    await sleep(50);
    await postgres.kill();
    expect(await hanging).toBe('failed');
    await expect(postgres.query('SELECT 1')).rejects.toThrow();
    await postgres.restart();
    expect(await postgres.query('SELECT id FROM kept')).toEqual([{ id: 1 }]);
  }, 30_000);
});

describe('PostgreSQL in a clone below a folder that only its owner may enter', () => {
  const root = join(__dirname, '..', '..');
  let folder: string;
  /** Where that clone puts its copy and its data: everybody may enter it, and it goes with the test. */
  let shared: string;
  beforeAll(() => {
    shared = mkdtempSync(join(tmpdir(), 'bcos-shared-'));
    chmodSync(shared, 0o755);
    // As root in a container: /root has mode 700, and the server runs as another account.
    folder = mkdtempSync(join(tmpdir(), 'bcos-private-'));
    mkdirSync(join(folder, 'clone', '__test__'), { recursive: true });
    cpSync(__dirname, join(folder, 'clone', '__test__', 'servers'), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(folder, 'clone', 'node_modules'));
  });
  afterAll(() => {
    for (const one of [folder, shared]) rmSync(one, { recursive: true, force: true });
  });

  /** Started by the files of that clone, with the programs that npm has installed there. */
  const script = `
    import { existsSync, readlinkSync } from 'node:fs';
    const servers = new URL('clone/__test__/servers/', 'file://' + process.argv[1] + '/');
    const { packagedPostgresFolders } = await import(new URL('binaries.mjs', servers));
    const { startPostgres } = await import(new URL('postgres.mjs', servers));
    process.env.PG_BIN = packagedPostgresFolders().find((one) => existsSync(one));
    const server = await startPostgres();
    const [row] = await server.query('SELECT 41 + 1 AS sum');
    const link = '/proc/' + server.pid + '/exe';
    const program = existsSync(link) ? readlinkSync(link) : undefined;
    await server.stop();
    console.log(JSON.stringify({ programs: process.env.PG_BIN, program, ...row }));
  `;

  it('starts, as root from a copy', async () => {
    const given = ['--input-type=module', '--eval', script, folder];
    const { stdout } = await promisify(execFile)(process.execPath, given, {
      cwd: root,
      env: { ...process.env, TMPDIR: shared },
    });
    const { programs, program, sum } = JSON.parse(stdout) as {
      programs: string;
      program?: string;
      sum: number;
    };
    expect(programs.startsWith(folder)).toBe(true);
    expect(sum).toBe(42);
    const isRoot = process.getuid?.() === 0;
    if (program !== undefined) expect(program.includes('bcos-postgres-')).toBe(isRoot);
  }, 60_000);
});

describe('PostgreSQL with TLS', () => {
  let postgres: PostgresServer;
  beforeAll(async () => {
    postgres = await startPostgres({ tls: true });
    await postgres.query("CREATE ROLE app LOGIN PASSWORD 's3cret'");
  }, 60_000);
  afterAll(() => postgres?.stop());

  const encrypted = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';

  it('answers over TLS only, also after a restart', async () => {
    expect(await postgres.query(encrypted)).toEqual([{ ssl: true }]);
    expect(await asked({ connectionString: postgres.url }, encrypted)).toEqual([[{ ssl: true }]]);
    await postgres.restart();
    const connectionString = await postgres.createDatabase('other');
    expect(connectionString).toMatch(/\/other\?sslmode=verify-full&sslrootcert=.*ca\.crt$/);
    expect(await asked({ connectionString }, encrypted)).toEqual([[{ ssl: true }]]);
    const { port } = postgres;
    const plain = { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' };
    await expect(asked(plain, encrypted)).rejects.toThrow(/no pg_hba.conf entry.*no encryption/);
  }, 30_000);

  it('asks other roles than the superuser for their password', async () => {
    const ssl = { ca: readFileSync(String(postgres.ca), 'utf8') };
    const app = { host: '127.0.0.1', port: postgres.port, user: 'app', database: 'postgres', ssl };
    expect(await asked({ ...app, password: 's3cret' }, encrypted)).toEqual([[{ ssl: true }]]);
    await expect(asked({ ...app, password: 'wrong' }, encrypted)).rejects.toMatchObject({ code: '28P01' });
  });

  it('has a certificate for whom it was told', async () => {
    await using other = await startPostgres({ tls: true, certificateNames: 'DNS:elsewhere.test' });
    expect(await other.query(encrypted)).toEqual([{ ssl: true }]);
    await expect(asked({ connectionString: other.url }, encrypted)).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    });
    expect(postgres.ca).not.toBe(other.ca);
  }, 30_000);
});

describe('PgBouncer', () => {
  let postgres: PostgresServer;
  let pooler: Pgbouncer;
  beforeAll(async () => {
    postgres = await startPostgres();
    pooler = await startPgbouncer({ port: postgres.port });
  }, 180_000);
  afterAll(async () => {
    await pooler?.stop();
    await postgres?.stop();
  });

  const config = () => ({ connectionString: pooler.through(postgres.url) });
  const server = 'SELECT pg_backend_pid() AS pid';

  it('gives a server to a transaction, not to a connection', async () => {
    const first = new pg.Client(config());
    await first.connect();
    const [[before]] = (await asked(config(), server)) as [[{ pid: number }]];
    await first.query('BEGIN');
    const held = (await first.query<{ pid: number }>(server)).rows[0]?.pid;
    const others = await Promise.all(Array.from({ length: 5 }, () => asked(config(), server, server)));
    const pids = new Set(others.flat(2).map(({ pid }) => pid));
    expect(pids.size).toBe(1);
    expect(pids.has(held)).toBe(false);
    expect([...pids, held]).toContain(before.pid);
    await first.query('COMMIT');
    await first.end();
    expect(pooler.log().split('new connection to server')).toHaveLength(3);
  });

  it('keeps no prepared statements and refuses startup parameters, unless it is to ignore them', async () => {
    const options = '-c statement_timeout=1000';
    await expect(asked({ ...config(), options }, server)).rejects.toThrow(/unsupported startup parameter/);
    const ignoreStartupParameters = ['options'];
    await using other = await startPgbouncer({ port: postgres.port, poolSize: 1, ignoreStartupParameters });
    const connectionString = other.through(postgres.url);
    const prepare = { name: 'one', text: 'SELECT 1 AS one' };
    expect(await asked({ connectionString, options }, prepare, prepare)).toEqual([
      [{ one: 1 }],
      [{ one: 1 }],
    ]);
    // Another connection, the same server.
    await expect(asked({ connectionString, options }, prepare)).rejects.toMatchObject({ code: '42P05' });
  });

  it('hangs, dies and comes back on its port', async () => {
    await pooler.pause();
    const answer = asked(config(), 'SELECT 1 AS one');
    expect(await settles(answer, 150)).toBe(false);
    await pooler.resume();
    expect(await answer).toEqual([[{ one: 1 }]]);
    const { pid, port } = pooler;
    await pooler.kill();
    expect(pooler.pid).toBeUndefined();
    await expect(asked(config(), server)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await pooler.restart();
    expect(pooler.port).toBe(port);
    expect(pooler.pid).not.toBe(pid);
    expect(await asked(config(), 'SELECT 1 AS one')).toEqual([[{ one: 1 }]]);
  });
});
