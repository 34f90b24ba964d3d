/**
 * Requests whose token nobody verified: they are refused, and until then they cost neither a statement nor an entry.
 */
import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { statementsOf } from './support/engines.js';
import { postgres, suite } from './support/rbac-suite.js';
import { valkey } from './support/stores.js';
import { claimsOf, forged, signed, verified } from './support/tokens.js';

const databases = postgres();
const { context, store } = suite(databases, valkey);

it('invented tokens never make the source work, nor fill the store', async () => {
  const { engine, world } = context();
  const known = await world.user();
  await engine.getHealth();
  const before = (await store().dump()).map(([key]) => key);
  const requests = Array.from({ length: 200 }, (_, index) => {
    const claims = claimsOf(index % 2 === 0 ? known : randomUUID());
    return { token: forged(signed(claims)), verify: verified, permission: 'a:b:own' };
  });
  const cost = await statementsOf(engine, async () => {
    for (const result of await Promise.all(requests.map((request) => engine.authorizeRequest(request)))) {
      expect(result).toMatchObject({ ok: false, status: 401, reason: 'token_invalid' });
    }
  });
  expect(cost).toBe(0);
  const after = (await store().dump()).map(([key]) => key).filter((key) => !before.includes(key));
  // Leases of verifications that failed are given back; the users' generations live as long as a lease.
  expect(after.filter((key) => !key.startsWith('jwt_user:'))).toEqual([]);
});

it('without a verification only the cache is asked, and an uncached payload is unverified', async () => {
  const { engine, world } = context();
  const claims = claimsOf(await world.user());
  const token = signed(claims);
  let result: unknown;
  const cost = await statementsOf(engine, async () => {
    result = await engine.authorizeRequest({ token });
  });
  expect([cost, result]).toEqual([0, expect.objectContaining({ ok: false, reason: 'token_unverified' })]);
  expect(await engine.authorizeRequest({ token, verify: verified })).toMatchObject({ ok: true });
  expect(await engine.authorizeRequest({ token })).toMatchObject({ ok: true, tokenId: claims.jti });
});

it('a revoked token is refused before and after its payload is known', async () => {
  const { engine, second, world } = context();
  const user = await world.user();
  const claims = claimsOf(user);
  const token = signed(claims);
  const rest = { tokenType: 'access', expiresAt: Date.now() + 3_600_000, reason: 'logout' };
  await engine.blacklistToken({ jti: claims.jti, userId: user, ...rest });
  for (const one of [engine, second, engine]) {
    expect(await one.authorizeRequest({ token, verify: verified })).toMatchObject({
      ok: false,
      reason: 'token_revoked',
    });
  }
  // Known to the source only.
  const other = claimsOf(user);
  await world.db.query("INSERT INTO token_blacklist VALUES ($1, $2, 'access', now(), now(), 'logout')", [
    other.jti,
    user,
  ]);
  expect(await engine.authorizeRequest({ token: signed(other), verify: verified })).toMatchObject({
    ok: false,
    reason: 'token_revoked',
  });
});
