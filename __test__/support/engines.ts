/**
 * Engines of a suite, closed at its end, and what tests read from them. Invariant: an option of the machine's own
 * environment never reaches a test.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine, type Engine, type EngineOptions } from '../../index.js';

for (const name of Object.keys(process.env)) {
  if (/^(REDIS|UPSTASH|CACHE|DATABASE|ANALYTICS|JWT_USER|RBAC|RATE_LIMIT)_/.test(name))
    delete process.env[name];
}

export class Engines implements AsyncDisposable {
  readonly #engines: Engine[] = [];

  start(...options: readonly EngineOptions[]): Engine {
    const engine = createEngine(Object.assign({}, ...options));
    this.#engines.push(engine);
    return engine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#engines.map((engine) => engine.close()));
  }
}

/** SQL statements the engine has sent. */
export const statements = (engine: Engine): number => engine.getMetrics().source.statements;

/** How many SQL statements an action costs. */
export async function statementsOf(engine: Engine, action: () => Promise<unknown>): Promise<number> {
  const before = statements(engine);
  await action();
  return statements(engine) - before;
}

/** Polls until it holds; the error says what was waited for. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<void> {
  const end = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(10);
  }
}

/** How a promise ended, as a value. */
export async function outcome<T>(promise: Promise<T>): Promise<{ value: T } | { error: unknown }> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}
