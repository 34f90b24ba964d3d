/**
 * What the scripts of the lifecycle tests share: the package as CommonJS, the servers they are given, and how they
 * tell what they saw. Invariant: importing this does not load the package.
 */
import { readdirSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import pg from 'pg';
import { RespClient } from '../servers/resp.mjs';

export const require = createRequire(import.meta.url);

export const ENTRY = require.resolve('../../index.js');

/** @returns {typeof import('../../index.js')} */
export const load = () => require(ENTRY);

/** Sends an engine to the slow views. */
export const slow = {
  cacheSchemaAllow: ['public', 'slow'],
  schema: { users: { schema: 'slow' }, token_blacklist: { schema: 'slow' } },
  cacheSourceDeadlineMs: 20_000,
};

/** At once, also when the process ends in the next line. @param {object} facts */
export function tell(facts) {
  writeSync(1, `${JSON.stringify(facts)}\n`);
}

/** @template T @param {PromiseLike<T>} promise */
export async function codeOf(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    const { code, field } = /** @type {{ code?: string, field?: string }} */ (error);
    return { code, field };
  }
}

/** What a synchronous function throws. @param {() => unknown} action */
export function thrown(action) {
  try {
    action();
    return 'nothing';
  } catch (error) {
    return /** @type {{ code?: string }} */ (error).code;
  }
}

/** Threads of this process. */
export const threads = () => readdirSync('/proc/self/task').length;

/** Counts, from outside, the connections to both servers that are younger than this object's own. */
export class Connections {
  constructor() {
    this.store = new RespClient({ port: Number(process.env.REDIS_PORT) });
    this.source = new pg.Client({ connectionString: process.env.DATABASE_URL, application_name: 'count' });
    this.connected = Promise.all([this.store.command('CLIENT', 'ID'), this.source.connect()]);
  }

  async count() {
    const [own] = await this.connected;
    const list = String(await this.store.command('CLIENT', 'LIST'));
    const ids = [...list.matchAll(/^id=(\d+)/gm)].map(([, id]) => Number(id));
    const { rows } = await this.source.query(
      `SELECT count(*)::int AS n FROM pg_stat_activity
       WHERE datname = current_database() AND backend_type = 'client backend' AND backend_start >
         (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())`,
    );
    return { store: ids.filter((id) => id > Number(own)).length, source: rows[0].n };
  }

  /** Waits until at most so many are left; answers what is left in the end. @param {number} store @param {number} source */
  async settle(store, source) {
    const end = Date.now() + 5_000;
    for (;;) {
      const now = await this.count();
      if ((now.store <= store && now.source <= source) || Date.now() > end) return now;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async end() {
    this.store.close();
    await this.source.end();
  }
}
