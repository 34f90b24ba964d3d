/**
 * README: "`sslmode` and certificates of Postgres are given in `DATABASE_URL`". A real server that lets nobody in
 * without TLS, and one that has none. Not about client certificates.
 * Invariant: what must not be answered is asked for where an answer exists, by the same calls that are answered elsewhere.
 */
import { randomUUID } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BcosCacheError, type Engine } from '../index.js';
import { type PostgresServer, startPostgres } from './servers/index.mjs';
import { Engines, outcome, until } from './support/engines.js';
import { rounds } from './support/rounds.js';

const PASSWORD = 'database-Passw0rd-of-this-test';
const WRONG_PASSWORD = 'another-Passw0rd-of-this-test';
const schema = readFileSync(join(__dirname, '../demo/schema.sql'), 'utf8');

const user = randomUUID();
const revoked = randomUUID();

const folder = mkdtempSync(join(tmpdir(), 'bcos-tls-spec-'));
const engines = new Engines();
/** Whatever an application can see of the engines of this file: log records, errors, health, metrics. */
const seen: string[] = [];
let records = 0;
let server: PostgresServer;
/** Its certificate is for somebody else. */
let elsewhere: PostgresServer;
/** Knows no TLS. */
let plain: PostgresServer;

async function prepared(starting: Promise<PostgresServer>): Promise<PostgresServer> {
  const started = await starting;
  await started.query(schema);
  await started.query(`CREATE ROLE app LOGIN PASSWORD '${PASSWORD}'; GRANT pg_read_all_data TO app`);
  await started.query(
    `INSERT INTO users (user_id, email, first_name, last_name) VALUES ($1, 'ada@example.test', 'Ada', 'Lovelace')`,
    [user],
  );
  await started.query(
    `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason)
     VALUES ($1, $2, 'access', '2030-01-01', 'logout')`,
    [revoked, user],
  );
  return started;
}

beforeAll(async () => {
  [server, elsewhere, plain] = await Promise.all([
    prepared(startPostgres({ tls: true })),
    prepared(startPostgres({ tls: true, certificateNames: 'DNS:elsewhere.test' })),
    prepared(startPostgres()),
  ]);
});
/** So that every connection a test meets is its own. */
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
  for (const one of [server, elsewhere, plain]) {
    await until('all connections are closed', async () => (await connections(one)).length === 0);
  }
});
afterAll(async () => {
  await Promise.all([server, elsewhere, plain].map((one) => one?.stop()));
  rmSync(folder, { recursive: true, force: true });
});

interface Way {
  readonly to: PostgresServer;
  readonly sslmode?: string;
  readonly sslrootcert?: string | undefined;
  readonly host?: string;
  readonly password?: string;
}

function reaching({ to, sslmode, sslrootcert, host = '127.0.0.1', password = PASSWORD }: Way): Engine {
  const url = new URL(`postgres://app:${password}@${host}:${to.port}/postgres`);
  if (sslmode !== undefined) url.searchParams.set('sslmode', sslmode);
  if (sslrootcert !== undefined) url.searchParams.set('sslrootcert', sslrootcert);
  const engine = engines.start({ databaseUrl: url.href, redisLog: 'trace' });
  engine.setLogger((record) => {
    records += 1;
    seen.push(JSON.stringify(record));
  });
  return engine;
}

/** Three questions with a known answer; the last one asks for what nobody knows yet, so that no cache can tell. */
const questions: readonly { ask(engine: Engine): Promise<unknown>; readonly right: unknown }[] = [
  { ask: async (engine) => (await engine.getUserById(user))?.first_name, right: 'Ada' },
  { ask: (engine) => engine.isTokenBlacklisted(revoked), right: true },
  { ask: (engine) => engine.isTokenBlacklisted(randomUUID()), right: false },
];

async function expectAnswers(engine: Engine): Promise<void> {
  for (const { ask, right } of questions) expect(await ask(engine)).toBe(right);
}

async function expectUnavailable(engine: Engine): Promise<void> {
  for (let round = 0; round < rounds(3, 1); round += 1) {
    for (const { ask } of questions) {
      const ended = await outcome(ask(engine));
      if (!('error' in ended)) throw new Error(`answered ${JSON.stringify(ended.value)}`);
      const { error } = ended;
      expect(error).toBeInstanceOf(BcosCacheError);
      expect(error).toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
      seen.push(String((error as Error).stack), JSON.stringify(error));
    }
  }
  const health = await engine.getHealth();
  expect(health.source.status).toBe('down');
  seen.push(JSON.stringify(health), engine.metricsText());
}

/** Of the connections that a role has open at the moment. */
const connections = (of: PostgresServer) =>
  of.query<{ ssl: boolean; version: string | null }>(
    "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app'",
  );

describe('a server that lets nobody in without TLS', () => {
  const accepted: readonly [string, () => Omit<Way, 'to'>][] = [
    ['no sslmode', () => ({})],
    ['require', () => ({ sslmode: 'require' })],
    ['verify-ca', () => ({ sslmode: 'verify-ca', sslrootcert: server.ca })],
    ['verify-full, by address', () => ({ sslmode: 'verify-full', sslrootcert: server.ca })],
    ['verify-full, by name', () => ({ sslmode: 'verify-full', sslrootcert: server.ca, host: 'localhost' })],
    // Only the verifying modes look at certificates; without this row the refusals below could have other reasons.
    ['require, whatever the authority', () => ({ sslmode: 'require', sslrootcert: elsewhere.ca })],
  ];

  it.each(accepted)('answers: %s', async (_, way) => {
    const engine = reaching({ to: server, ...way() });
    await expectAnswers(engine);
    const open = await connections(server);
    expect(open.length).toBeGreaterThan(0);
    for (const one of open)
      expect(one).toMatchObject({ ssl: true, version: expect.stringMatching(/^TLSv1\.[23]$/) });
    expect((await engine.getHealth()).source.status).toBe('healthy');
  });

  const refused: readonly [string, () => Omit<Way, 'to'>][] = [
    ['disable', () => ({ sslmode: 'disable' })],
    [
      'verify-full with the authority of another server',
      () => ({ sslmode: 'verify-full', sslrootcert: elsewhere.ca }),
    ],
    [
      'verify-ca with the authority of another server',
      () => ({ sslmode: 'verify-ca', sslrootcert: elsewhere.ca }),
    ],
    ['verify-full with the public authorities', () => ({ sslmode: 'verify-full' })],
    [
      'verify-full with a file that is not there',
      () => ({ sslmode: 'verify-full', sslrootcert: join(folder, 'none') }),
    ],
    ['require with a wrong password', () => ({ sslmode: 'require', password: WRONG_PASSWORD })],
  ];

  it.each(refused)('E_SOURCE_UNAVAILABLE: %s', async (_, way) => {
    const engine = reaching({ to: server, ...way() });
    await expectUnavailable(engine);
    expect(await connections(server)).toEqual([]);
  });

  it('is answered again when the file has the right authority, without a restart', async () => {
    const file = join(folder, 'rotated.crt');
    copyFileSync(String(elsewhere.ca), file);
    const engine = reaching({ to: server, sslmode: 'verify-full', sslrootcert: file });
    await expectUnavailable(engine);
    // As authorities are rotated: both for a while.
    writeFileSync(file, [elsewhere, server].map(({ ca }) => readFileSync(String(ca), 'utf8')).join(''));
    await until(
      'the source answers',
      async () => 'value' in (await outcome(engine.isTokenBlacklisted(randomUUID()))),
      2_000,
    );
    await expectAnswers(engine);
  });
});

describe('a server whose certificate is for somebody else', () => {
  it('verify-full: E_SOURCE_UNAVAILABLE', async () => {
    await expectUnavailable(reaching({ to: elsewhere, sslmode: 'verify-full', sslrootcert: elsewhere.ca }));
  });

  it('verify-ca answers: the name was the only reason', async () => {
    await expectAnswers(reaching({ to: elsewhere, sslmode: 'verify-ca', sslrootcert: elsewhere.ca }));
  });
});

describe('a server without TLS', () => {
  it.each(['require', 'verify-ca', 'verify-full'])(
    '%s: E_SOURCE_UNAVAILABLE, never in the clear',
    async (sslmode) => {
      await expectUnavailable(reaching({ to: plain, sslmode, sslrootcert: server.ca }));
      expect(await connections(plain)).toEqual([]);
    },
  );

  it.each([undefined, 'disable'])('answers: sslmode %s', async (sslmode) => {
    await expectAnswers(reaching({ to: plain, ...(sslmode === undefined ? {} : { sslmode }) }));
  });
});

it('no log record, error, health report or metric shows a password', () => {
  expect(records).toBeGreaterThan(0);
  const all = seen.join('\n');
  expect(all).toContain('"component":"source"');
  expect(all).not.toContain(PASSWORD);
  expect(all).not.toContain(WRONG_PASSWORD);
  expect(all).not.toContain('Passw0rd');
});
