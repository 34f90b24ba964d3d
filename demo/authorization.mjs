/**
 * Authorizes the same requests in three ways and counts what each costs: the steps as the dashboard plays them, the
 * steps each once, and one `authorizeRequest`. Everything is warm. Judges only that all let the same user in.
 * Invariant: the ways take turns, so that whatever else the machine does meets them alike; requests whose round trips
 * are counted run one after the other, so that none shares another's.
 */
import { authenticated, once, openDashboard, REQUESTS } from './dashboard.mjs';
import { percentiles, range } from './figures.mjs';

/**
 * @param {{ engine: import('../index.js').Engine, counts: () => Record<string, number>, token: string, rounds: number,
 *   separate: import('./dashboard.mjs').Steps, oneCall: import('./dashboard.mjs').Steps,
 *   judge: ReturnType<typeof import('./judge.mjs').createJudge>,
 *   judgeDashboard: (name: string, dashboard: Awaited<ReturnType<typeof openDashboard>>) => void,
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function measureAuthorization(input) {
  const { separate, oneCall, token, rounds, judge, judgeDashboard, say } = input;
  const ways = {
    twice: separate,
    once: { ...separate, authorize: (text) => once(separate, text) },
    oneCall,
  };
  const names = Object.keys(ways);
  const requests = { twice: [], once: [], oneCall: [] };
  const dashboards = { twice: [], once: [], oneCall: [] };
  // What is parsed and kept on first use is not compared.
  for (const name of names) await authenticated(ways[name], token, async () => 'let in');
  for (let round = 0; round < rounds; round += 1) {
    say('authorizing the same requests in three ways', { done: round, total: rounds });
    for (let turn = 0; turn < names.length; turn += 1) {
      const name = names[(round + turn) % names.length];
      for (let i = 0; i < REQUESTS; i += 1) {
        const [answer, cost] = await costOf(input, () =>
          authenticated(ways[name], token, async () => 'let in'),
        );
        judge.equal(`${name}: an authorized request`, answer.ok && answer.body, 'let in');
        requests[name].push(cost);
      }
      const [dashboard, cost] = await costOf(input, () => openDashboard(ways[name], token));
      judgeDashboard(`authorized ${name}`, dashboard);
      dashboards[name].push(cost);
    }
  }
  return Object.fromEntries(
    names.map((name) => [
      name,
      {
        requests: requests[name].length,
        roundTrips: range(requests[name], (cost) => cost.roundTrips),
        statements: range(requests[name], (cost) => cost.statements),
        ms: percentiles(requests[name].map((cost) => cost.ms)),
        dashboard: {
          played: dashboards[name].length,
          roundTrips: range(dashboards[name], (cost) => cost.roundTrips),
          ms: percentiles(dashboards[name].map((cost) => cost.ms)),
        },
      },
    ]),
  );
}

async function costOf({ engine, counts }, play) {
  const read = () => {
    const { store, source } = engine.getMetrics();
    const own = Object.values(counts()).reduce((sum, n) => sum + n, 0);
    return { roundTrips: store.roundTrips, statements: source.statements + own };
  };
  const before = read();
  const from = performance.now();
  const answer = await play();
  const ms = performance.now() - from;
  const after = read();
  return [
    answer,
    {
      ms,
      roundTrips: after.roundTrips - before.roundTrips,
      statements: after.statements - before.statements,
    },
  ];
}
