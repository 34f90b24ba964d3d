/**
 * A permission is taken from a role that very many users have, or given back. How long until the change is acknowledged, and
 * until users on another engine have it: by one invalidation, and by removing the context of every user from the store.
 * The peer knows the keys without asking anybody for them; an application would have to keep and to read such a list.
 */

import { Redis } from 'ioredis';
import pg from 'pg';
import { asPlanned } from './cold.mjs';
import { serverCounts } from './counts.mjs';
import { PEER_PREFIX, withEngines } from './data.mjs';
import { median } from './measure.mjs';
import { ANALYST, analysts, withSource } from './rbac-data.mjs';

/** @typedef {import('../index.js').Engine} Engine */

const WARM = 2_000;
const SAMPLED = 100;
const AT_ONCE = 100;
const UNLINKED_AT_ONCE = 1_000;
const CONNECTIONS = 8;

/** @param {Engine} by @param {string[]} ids */
async function permissionsOf(by, ids) {
  const counts = [];
  for (let from = 0; from < ids.length; from += AT_ONCE) {
    const some = ids.slice(from, from + AT_ONCE).map((id) => by.getCachedUserContext(id));
    counts.push(...(await Promise.all(some)).map((context) => context.all_permissions.length));
  }
  return counts;
}

/** @param {number[]} counts @param {number} expected @param {string} whose */
function allSee(counts, expected, whose) {
  const other = counts.filter((count) => count !== expected).length;
  if (other > 0) throw new Error(`${other} of ${counts.length} users of ${whose} do not see the change`);
}

/** Milliseconds until acknowledged and until seen. @param {() => Promise<unknown>} change @param {() => Promise<unknown>} see */
async function timed(change, see) {
  const start = performance.now();
  await change();
  const changed = performance.now();
  await see();
  return { changed: changed - start, seen: performance.now() - start };
}

/** @type {import('./report.mjs').Measurement['run']} */
export function roleChange({ server, rounds, people: count, progress }) {
  const people = analysts(count);
  const ids = people.users.map((user) => user.user_id);
  const sampled = ids.slice(0, SAMPLED);
  const keys = ids.map((id) => `${PEER_PREFIX}changed:${id}`);
  return withSource(people, async (postgres) => {
    const options = { databaseUrl: postgres.url, databasePoolMax: CONNECTIONS, redisKeyPrefix: 'change:' };
    const pool = new pg.Pool({ connectionString: postgres.url, max: CONNECTIONS });
    const redis = new Redis({ host: server.host, port: server.port });
    const planned = asPlanned(pool);
    const granted = await postgres.query('SELECT * FROM role_permissions WHERE role_id = $1 LIMIT 1', [
      ANALYST.role_id,
    ]);
    const one = /** @type {Record<string, string>} */ (granted[0]);
    /** Takes the permission away or gives it back. @param {boolean} given */
    const write = (given) =>
      given
        ? postgres.query('INSERT INTO role_permissions VALUES ($1, $2, $3)', [
            one['role_permission_id'],
            one['role_id'],
            one['permission_id'],
          ])
        : postgres.query('DELETE FROM role_permissions WHERE role_permission_id = $1', [
            one['role_permission_id'],
          ]);

    /** @type {Record<string, number[]>} */
    const taken = {};
    const note = (/** @type {string} */ name, /** @type {number} */ value) => {
      taken[name] = [...(taken[name] ?? []), value];
    };
    await withEngines(server, [options, options], async (ours, second) => {
      progress(`role change: ${count} users`);
      const text = JSON.stringify(await ours.getCachedUserContext(String(ids[0])));
      await permissionsOf(ours, ids.slice(0, WARM));
      await permissionsOf(second, ids.slice(0, WARM));
      /** All users have an entry. */
      const fill = async () => {
        for (let from = 0; from < keys.length; from += UNLINKED_AT_ONCE) {
          const pipeline = redis.pipeline();
          for (const key of keys.slice(from, from + UNLINKED_AT_ONCE)) pipeline.set(key, text, 'EX', 300);
          await pipeline.exec();
        }
      };
      /** @param {(some: string[]) => Promise<unknown>} remove */
      const everyKey = async (remove) => {
        for (let from = 0; from < keys.length; from += UNLINKED_AT_ONCE) {
          await remove(keys.slice(from, from + UNLINKED_AT_ONCE));
        }
      };
      const each = (/** @type {string[]} */ some) => {
        const pipeline = redis.pipeline();
        for (const key of some) pipeline.unlink(key);
        return pipeline.exec();
      };
      const seenByPeer = (/** @type {number} */ expected) => async () => {
        const contexts = await Promise.all(sampled.map((id) => planned.context(id)));
        allSee(
          contexts.map((context) => context.all_permissions.length),
          expected,
          'the peer',
        );
      };
      const usual = people.truth.permissions;
      // An even number, so that the permission is there again afterwards.
      for (let round = 0; round < 2 * rounds + 2; round += 1) {
        const expected = round % 2 === 0 ? usual - 1 : usual;
        await write(expected === usual);
        const before = {
          ours: ours.getMetrics().store,
          server: await serverCounts(server),
          sql: second.getMetrics().source,
        };
        let commands = Number.NaN;
        const own = await timed(
          () => ours.invalidateRolePermissions(ANALYST.role_id, 'bench'),
          async () => {
            commands = ours.getMetrics().store.commands - before.ours.commands;
            allSee(await permissionsOf(second, sampled), expected, 'the second engine');
          },
        );
        const statements = second.getMetrics().source.statements - before.sql.statements;
        await fill();
        const counted = await serverCounts(server);
        const pipelined = await timed(() => everyKey(each), seenByPeer(expected));
        const unlinked = (await serverCounts(server)).commands - counted.commands - 1;
        await fill();
        const variadic = await timed(() => everyKey((some) => redis.unlink(...some)), seenByPeer(expected));
        if (round < 2) continue;
        note('bcos-cache `invalidateRolePermissions`, ms', own.changed);
        note('store commands of it', commands);
        note(`until ${SAMPLED} users on a second engine see it, ms`, own.seen);
        note('SQL statements of the second engine', statements);
        note(`ioredis, ${count} UNLINK in pipelines of 1,000, ms`, pipelined.changed);
        note('commands of it, counted by the server', unlinked);
        note(`until ${SAMPLED} users are loaded again with the plan's 5 statements, ms`, pipelined.seen);
        note('ioredis, UNLINK with 1,000 keys each, ms', variadic.changed);
      }
      // Not only the sampled ones.
      allSee(await permissionsOf(second, ids.slice(0, WARM)), usual, 'the second engine');
      allSee(await permissionsOf(ours, ids.slice(0, WARM)), usual, 'the engine that changed it');
    });
    redis.disconnect();
    await pool.end();
    const values = Object.fromEntries(Object.entries(taken).map(([name, list]) => [name, median(list)]));
    const table = {
      title: `Role change, visible to ${count.toLocaleString('en-US')} users`,
      values,
      note: `Medians of ${2 * rounds} changes. ${WARM.toLocaleString('en-US')} contexts were warm on both engines; the peer's keys are known to it without a lookup. All times begin after the commit.`,
    };
    return [table];
  });
}
