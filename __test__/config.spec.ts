/**
 * Configuration: a bad value is `E_CONFIG` that names the variable, the value and what is accepted, and never shows a
 * secret; the README's reference is the table that parsing uses. Not what the options do.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions } from '../index.js';
import { configReference, variableNames } from '../native.js';
import { Engines } from './support/engines.js';

const run = promisify(execFile);
const root = join(__dirname, '..');
const text = (name: string) => readFileSync(join(root, name), 'utf8');

/** What `createEngine` throws, with these variables set meanwhile. */
function refusal(options: unknown, variables: Record<string, string> = {}): unknown {
  Object.assign(process.env, variables);
  try {
    void createEngine(options as EngineOptions).close();
    return 'accepted';
  } catch (error) {
    return error;
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name];
  }
}

interface Bad {
  readonly options?: unknown;
  readonly variables?: Record<string, string>;
  readonly field: string;
  /** As the message shows it; `null` where there is nothing to show. */
  readonly value: string | null;
  readonly accepted: RegExp;
}

const port = /a port between 1 and 65535/;
const bad: readonly Bad[] = [
  { options: { redisPort: 0 }, field: 'REDIS_PORT', value: '0', accepted: port },
  { options: { redisPort: 65_536 }, field: 'REDIS_PORT', value: '65536', accepted: port },
  { options: { redisPort: '6379' }, field: 'REDIS_PORT', value: '6379', accepted: port },
  { variables: { REDIS_PORT: 'six' }, field: 'REDIS_PORT', value: 'six', accepted: port },
  { variables: { REDIS_PORT: '6379 ' }, field: 'REDIS_PORT', value: '6379 ', accepted: port },
  {
    options: { redisHost: 'a b' },
    field: 'REDIS_HOST',
    value: 'a b',
    accepted: /a host name or an IP address/,
  },
  {
    options: { redisHost: null },
    field: 'REDIS_HOST',
    value: 'null',
    accepted: /a host name or an IP address/,
  },
  {
    options: { redisMode: 'sentinel' },
    field: 'REDIS_MODE',
    value: 'sentinel',
    accepted: /auto, standalone or cluster/,
  },
  {
    variables: { CACHE_STORE: 'disk' },
    field: 'CACHE_STORE',
    value: 'disk',
    accepted: /valkey, embedded or none/,
  },
  { variables: { REDIS_TLS: 'maybe' }, field: 'REDIS_TLS', value: 'maybe', accepted: /true or false/ },
  { options: { redisTls: 'true' }, field: 'REDIS_TLS', value: 'true', accepted: /true or false/ },
  { options: { redisKeyPrefix: 'a*' }, field: 'REDIS_KEY_PREFIX', value: 'a*', accepted: /printable ASCII/ },
  {
    options: { cacheDeadlineMs: 0 },
    field: 'CACHE_DEADLINE_MS',
    value: '0',
    accepted: /milliseconds between 1 and 60000/,
  },
  { options: { cacheDeadlineMs: 1.5 }, field: 'CACHE_DEADLINE_MS', value: '1.5', accepted: /a whole number/ },
  {
    variables: { CACHE_DEADLINE_MS: '50ms' },
    field: 'CACHE_DEADLINE_MS',
    value: '50ms',
    accepted: /a whole number/,
  },
  { variables: { CACHE_TTL: '-1' }, field: 'CACHE_TTL', value: '-1', accepted: /seconds between 1 and/ },
  { variables: { CACHE_BATCH_SIZE: '0' }, field: 'CACHE_BATCH_SIZE', value: '0', accepted: /between 1 and/ },
  {
    variables: { CACHE_QUERY_TIMEOUT: '1e4' },
    field: 'CACHE_QUERY_TIMEOUT',
    value: '1e4',
    accepted: /milliseconds/,
  },
  {
    variables: { CACHE_METRICS_ENABLED: 'ja' },
    field: 'CACHE_METRICS_ENABLED',
    value: 'ja',
    accepted: /true or false/,
  },
  {
    variables: { ENABLE_CACHE_WARMING: '2' },
    field: 'ENABLE_CACHE_WARMING',
    value: '2',
    accepted: /true or false/,
  },
  {
    options: { jwtUserClaims: ['a b'] },
    field: 'JWT_USER_CLAIMS',
    value: 'a b',
    accepted: /names without spaces/,
  },
  {
    options: { cacheSchemaAllow: ['x;y'] },
    field: 'CACHE_SCHEMA_ALLOW',
    value: 'x;y',
    accepted: /SQL identifiers/,
  },
  {
    variables: { REDIS_LOG: 'loud' },
    field: 'REDIS_LOG',
    value: 'loud',
    accepted: /error, warn, info, debug or trace/,
  },
  {
    options: { redisHost: 'h', redisTls: true, redisTlsCa: '/no/such.pem' },
    field: 'REDIS_TLS_CA',
    value: '/no/such.pem',
    accepted: /PEM file/,
  },
  {
    options: { redisHost: 'h', redisTls: true, redisTlsCa: join(root, 'package.json') },
    field: 'REDIS_TLS_CA',
    value: 'package.json',
    accepted: /PEM file/,
  },
  {
    options: { cacheStore: 'valkey' },
    field: 'CACHE_STORE',
    value: 'valkey',
    accepted: /only together with a server/,
  },
  {
    options: { redisClusterNodes: ['a'], redisHost: 'h' },
    field: 'REDIS_CLUSTER_NODES',
    value: 'a',
    accepted: /host:port/,
  },
  {
    options: { redisHost: 'h', redisUsername: 'u' },
    field: 'REDIS_USERNAME',
    value: 'u',
    accepted: /together with a password/,
  },
  {
    options: { redisHots: 'hunter2' },
    field: 'redisHots',
    value: null,
    accepted: /Did you mean redisHost\?/,
  },
  {
    options: { near: { x: { mode: 'off' } } },
    field: 'near.x',
    value: null,
    accepted: /token_bl, user_basic/,
  },
  {
    options: { near: { user_basic: { mode: 'on' } } },
    field: 'near.user_basic.mode',
    value: 'on',
    accepted: /validated, bounded or off/,
  },
  {
    options: { near: { user_basic: { mode: 'bounded', maxAgeMs: 60_001 } } },
    field: 'near.user_basic.maxAgeMs',
    value: '60001',
    accepted: /between 1 and 60000/,
  },
  {
    options: { schema: { users: { table: 'x y' } } },
    field: 'schema.users.table',
    value: 'x y',
    accepted: /an SQL identifier/,
  },
  {
    options: { schema: { users: { schema: 'secret' } } },
    field: 'schema.users.schema',
    value: 'secret',
    accepted: /ih or public.*CACHE_SCHEMA_ALLOW/s,
  },
  {
    options: { schema: { users: { columns: { name: 'x' } } } },
    field: 'schema.users.columns.name',
    value: null,
    accepted: /user_id, email/,
  },
];

describe('a bad value', () => {
  it.each(bad)(
    '$field ($value) is E_CONFIG: variable, value, what is accepted',
    ({ options, variables, ...expected }) => {
      const error = refusal(options ?? {}, variables);
      expect(error).toMatchObject({ name: 'ConfigError', code: 'E_CONFIG', retryable: false });
      const { message } = error as Error;
      expect(message).toContain(expected.field);
      if (expected.value !== null) expect(message).toContain(expected.value);
      expect(message).toMatch(expected.accepted);
      expect(error).toMatchObject({ field: expected.field });
    },
  );

  it('all mistakes are reported at once', () => {
    const error = refusal(
      { redisPort: 0, cacheTtl: -1, near: { x: {} } },
      { REDIS_MODE: 'sentinel' },
    ) as Error;
    for (const name of ['REDIS_PORT', 'CACHE_TTL', 'near.x', 'REDIS_MODE'])
      expect(error.message).toContain(name);
    expect(error.message.split('\n')).toHaveLength(4);
  });

  it.each([null, [], 'x', 7, () => undefined, { cacheTtl: 1n }])('options %s are refused', (options) => {
    expect(refusal(options)).toMatchObject({ code: expect.stringMatching(/^E_(CONFIG|INVALID_ARGUMENT)$/) });
  });

  it('an option hides its variable, also when the option is wrong', () => {
    expect(refusal({ redisPort: 6_379 }, { REDIS_PORT: 'six' })).toBe('accepted');
    expect((refusal({ redisPort: 0 }, { REDIS_PORT: '6379' }) as Error).message).toContain(
      'option redisPort',
    );
  });

  it('an empty variable is an unset one', () => {
    const all = Object.fromEntries(variableNames().map((name) => [name, '']));
    expect(refusal({}, all)).toBe('accepted');
    expect(refusal({ redisHost: undefined, near: undefined })).toBe('accepted');
  });
});

describe('secrets', () => {
  const secret = 'hunter2-TopSecret';
  const cases: readonly [string, unknown, Record<string, string>?][] = [
    ['a password of the wrong type', { redisHost: 'h', redisPassword: { [secret]: secret } }],
    ['a password with a line end', { redisHost: 'h', redisPassword: `${secret}\n` }],
    ['a URL of the wrong scheme', { redisUrl: `http://u:${secret}@h` }],
    ['a URL with a bad port', { redisUrl: `redis://u:${secret}@h:x` }],
    ['two servers', { redisUrl: `redis://u:${secret}@h`, redisHost: 'h' }],
    ['a URL in the wrong place', { redisHost: `redis://:${secret}@h` }],
    ['a URL as a port', {}, { REDIS_PORT: `redis://:${secret}@h` }],
    ['a database URL of another kind', { databaseUrl: `mysql://u:${secret}@h/d` }],
    ['a database URL without a host', { databaseUrl: `postgres://u:${secret}@/d` }],
    ['an analytics URL that is none', {}, { ANALYTICS_DATABASE_URL: `${secret}` }],
    ['an Upstash token alone', { upstashRedisRestToken: secret }],
    [
      'an Upstash URL with a token',
      { upstashRedisRestUrl: `https://u:${secret}@h`, upstashRedisRestToken: secret },
    ],
    ['a misspelt name', { redisPasword: secret }],
    ['a password with a bad neighbour', { redisHost: 'h', redisPassword: secret, redisPort: 0 }],
  ];
  it.each(cases)('%s: the secret is not in the error', (_, options, variables) => {
    const error = refusal(options, variables) as Error;
    expect(error).toMatchObject({ code: 'E_CONFIG' });
    expect([error.message, error.stack, JSON.stringify(error), String(error.cause)].join('\n')).not.toContain(
      secret,
    );
  });

  it('nor in health and metrics of an engine that cannot reach anything', async () => {
    await using engines = new Engines();
    const engine = engines.start({
      redisUrl: `redis://app:${secret}@127.0.0.1:1`,
      databaseUrl: `postgres://app:${secret}@127.0.0.1:1/${secret}`,
      cacheConnectTimeoutMs: 200,
    });
    const error = await engine.isTokenBlacklisted('a').catch((reason: Error) => reason);
    expect(error).toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
    const shown = [
      String(error),
      JSON.stringify(error),
      JSON.stringify(await engine.getHealth()),
      engine.metricsText(),
    ];
    expect(shown.join('\n')).not.toContain(secret);
  });
});

describe('the default engine', () => {
  /** Runs steps in a process of their own. */
  async function steps(
    names: readonly string[],
    variables: Record<string, string> = {},
  ): Promise<Record<string, unknown>> {
    const script = join(__dirname, 'support', 'default-engine.mjs');
    const env = { PATH: process.env.PATH ?? '', ...variables };
    const { stdout } = await run(process.execPath, [script, JSON.stringify(names)], { env, timeout: 20_000 });
    return JSON.parse(stdout) as Record<string, unknown>;
  }

  it('importing opens nothing, configure holds until the first use, then is E_CONFLICT', async () => {
    const conflict = { thrown: 'E_CONFLICT', name: 'ConflictError' };
    expect(
      await steps([
        'import',
        'configureBad',
        'configureNone',
        'configureEmbedded',
        'store',
        'configureNone',
        'store',
      ]),
    ).toEqual({
      import: { value: 0 },
      configureBad: { thrown: 'E_CONFIG', field: 'REDIS_PORT', name: 'ConfigError' },
      configureNone: { value: null },
      configureEmbedded: { value: null },
      store: { value: 'embedded' },
      configureNone2: conflict,
      store2: { value: 'embedded' },
    });
  });

  it('comes from the environment when nobody configured it, and is one for import and require', async () => {
    expect(await steps(['sameEngine', 'store', 'esm', 'configureNone'], { CACHE_STORE: 'embedded' })).toEqual(
      {
        sameEngine: { value: true },
        store: { value: 'embedded' },
        esm: { value: true },
        configureNone: { thrown: 'E_CONFLICT', name: 'ConflictError' },
      },
    );
  });

  it('a bad variable rejects what returns a promise and throws from what does not', async () => {
    const bad = { field: 'CACHE_STORE', name: 'ConfigError' };
    expect(
      await steps(['ask', 'store', 'mark', 'available', 'metrics', 'close'], { CACHE_STORE: 'disk' }),
    ).toEqual({
      ask: { rejected: 'E_CONFIG', ...bad },
      store: { rejected: 'E_CONFIG', ...bad },
      mark: { rejected: 'E_CONFIG', ...bad },
      available: { thrown: 'E_CONFIG', ...bad },
      metrics: { thrown: 'E_CONFIG', ...bad },
      close: { value: null },
    });
  });

  it('closed is closed, for ever', async () => {
    const closed = { rejected: 'E_CLOSED', name: 'ClosedError' };
    expect(
      await steps(['ask', 'close', 'close', 'ask', 'mark', 'configureNone'], { CACHE_STORE: 'embedded' }),
    ).toEqual({
      ask: { value: null },
      close: { value: null },
      close2: { value: null },
      ask2: closed,
      mark: closed,
      configureNone: { thrown: 'E_CONFLICT', name: 'ConflictError' },
    });
  });
});

describe('the reference', () => {
  const reference = configReference();
  const rows = [...reference.matchAll(/^\| `([A-Z_]+)` \| `(\w+)` \| (.*?) \| (.*) \| (.*) \|$/gm)];

  it('is in the README, word for word', () => {
    const block = /<!-- config-reference:start -->\n+([\s\S]*?)\n*<!-- config-reference:end -->/.exec(
      text('README.md'),
    );
    expect(block?.[1]?.trim()).toBe(reference.trim());
  });

  it('has a row for every variable the engine reads, and no other', () => {
    expect(rows.map(([, name]) => name)).toEqual(variableNames());
  });

  it('names the options that index.d.ts declares, each with its variable', () => {
    const block = /export interface EngineOptions \{([\s\S]*?)\n\}/.exec(text('index.d.ts'))?.[1] ?? '';
    const declared = [...block.matchAll(/^ {2}readonly (\w+)\?/gm)].map(([, option]) => option);
    const options = rows.map(([, , option]) => option);
    expect([...options, 'dashboard', 'near', 'rateLimits', 'schema'].sort()).toEqual([...declared].sort());
    const documented = [...block.matchAll(/`([A-Z][A-Z_]+)`[\s\S]*?\n {2}readonly (\w+)\?/g)].map(
      ([, name, option]) => [option, name],
    );
    for (const [, name, option] of rows) expect(documented).toContainEqual([option, name]);
  });

  it('has the variables the specification names, with its defaults', () => {
    const defaults = new Map(rows.map(([, name, , value]) => [name, value]));
    const fixed = {
      CACHE_TTL: '`86400`',
      CACHE_BATCH_SIZE: '`5000`',
      CACHE_QUERY_TIMEOUT: '`10000`',
      REDIS_MODE: '`auto`',
    };
    for (const [name, value] of Object.entries(fixed))
      expect([name, defaults.get(name)]).toEqual([name, value]);
    const names =
      'REDIS_HOST REDIS_PORT REDIS_USERNAME REDIS_PASSWORD REDIS_TLS REDIS_URL REDIS_KEY_PREFIX CACHE_STORE REDIS_LOG ' +
      'UPSTASH_REDIS_REST_URL UPSTASH_REDIS_REST_TOKEN DATABASE_URL ANALYTICS_DATABASE_URL CACHE_METRICS_ENABLED ENABLE_CACHE_WARMING';
    for (const name of names.split(' ')) expect([...defaults.keys()]).toContain(name);
  });

  it('the defaults that index.d.ts states are the defaults', () => {
    const block = /export interface EngineOptions \{([\s\S]*?)\n\}/.exec(text('index.d.ts'))?.[1] ?? '';
    const stated = [...block.matchAll(/`([A-Z][A-Z_]+)`[^`]*?default (?:`([^`]+)`|(\d+))/g)];
    const defaults = new Map(rows.map(([, name, , value]) => [name, value?.replace(/`/g, '')]));
    expect(stated.length).toBeGreaterThan(5);
    for (const [, name, quoted, number] of stated) {
      if (quoted !== undefined && /^(ih|databaseUrl)$/.test(quoted)) continue;
      expect([name, defaults.get(name)]).toEqual([name, quoted ?? number]);
    }
  });
});
