/**
 * What is said of the two layers of a dashboard, from what was found out about them. Pure.
 * Invariant: what is not known is not healthy: a view whose age nobody can tell, or that claims to be from the future.
 */

import type * as Public from '../../index.js';

/** What the native side tells of the view, or why it could not. */
export interface ViewFacts {
  readonly exists?: boolean | undefined;
  readonly populated?: boolean | undefined;
  readonly uniqueIndex?: boolean | undefined;
  readonly lastRefreshed?: string | null | undefined;
  readonly ageSeconds?: number | null | undefined;
  readonly error?: string | undefined;
}

/** A clock that was set by hand may be off by so much and still be believed. */
const FUTURE_SECONDS = 60;

/** The age, when it can be believed. */
function ageOf({ ageSeconds: age }: ViewFacts): number | undefined {
  return typeof age === 'number' && Number.isFinite(age) && age >= -FUTURE_SECONDS ? age : undefined;
}

/** What is wrong with the view, and what to do about it. */
function complaint(
  name: string,
  facts: ViewFacts,
  maxAgeSeconds: number,
): readonly [error: string, fix: string] | undefined {
  const refresh = 'Call refreshDashboardMetrics().';
  if (facts.error !== undefined) return [facts.error, 'Until the view can be read, the queries answer.'];
  if (facts.exists !== true)
    return [`there is no materialized view ${name}`, 'Create it, with a unique index.'];
  if (facts.populated !== true) return [`${name} was never populated`, refresh];
  const age = ageOf(facts);
  if (age === undefined) {
    return [
      `nobody can tell how old ${name} is`,
      'Its column lastRefreshedColumn must hold the time of the refresh.',
    ];
  }
  if (age > maxAgeSeconds)
    return [`${name} is older than ${maxAgeSeconds} s`, `${refresh} Is it called regularly?`];
  if (facts.uniqueIndex !== true) {
    return [
      `${name} has no unique index, so it cannot be refreshed while it is read`,
      'Create one, without WHERE.',
    ];
  }
  return undefined;
}

export function judge(
  store: Public.StoreInfo,
  view: { readonly name: string; readonly facts: ViewFacts; readonly maxAgeSeconds: number },
  now: Date,
): Public.CacheHealth {
  const { facts } = view;
  const wrong = complaint(view.name, facts, view.maxAgeSeconds);
  const fine = wrong === undefined;
  const age = ageOf(facts);
  const advice = [
    ...(store.connected ? [] : ['The cache does not answer: every call goes to the view or the queries.']),
    ...(wrong === undefined ? [] : [`The view is not healthy: ${wrong[0]}. ${wrong[1]}`]),
  ];
  return {
    overall: store.connected && fine ? 'healthy' : store.connected || fine ? 'degraded' : 'down',
    redis: {
      healthy: store.connected,
      connected: store.connected,
      keyCount: store.keyCount,
      memory: store.memory,
    },
    materializedView: {
      healthy: fine,
      ...(facts.lastRefreshed == null ? {} : { lastRefreshed: facts.lastRefreshed }),
      ...(age === undefined ? {} : { ageSeconds: Math.max(0, Math.round(age)) }),
      ...(wrong === undefined ? {} : { error: wrong[0] }),
    },
    timestamp: now.toISOString(),
    recommendation: advice.length === 0 ? 'All cache layers healthy' : advice.join(' '),
  };
}
