/**
 * What all outage specs share: bounds, a witness that keeps asking, and where answers came from. Not the faults: each
 * spec makes its own. Invariant: a bound is the promise plus room for a busy machine, never a measured habit.
 */
import type { Engine, Namespace } from '../../index.js';
import type { Server } from '../servers/index.mjs';
import { until } from './engines.js';

/** `CACHE_DEADLINE_MS` of the engines under test, which is the default. */
export const STORE_DEADLINE_MS = 50;

/** What a call may take when it meets a store that does not answer: its deadline, and room for a busy machine. */
export const FIRST_CALL_MS = STORE_DEADLINE_MS + 350;

/** The promise: in service again so soon after the store came back. */
export const RECOVERY_MS = 2_000;

/** Options of an engine that reaches a server, or a proxy in front of it. */
export const reaching = ({ host, port }: { host: string; port: number }) => ({
  redisHost: host,
  redisPort: port,
});

/** Answers of a namespace by the store or by a near copy that the store confirmed. */
export function cachedAnswers(engine: Engine, namespace: Namespace): number {
  const { near, store } = engine.getMetrics().namespaces[namespace];
  return near + store;
}

/** Resolves when the store really answers this engine, which may not have noticed an outage of its own yet. */
export async function answered(engine: Engine, userId: string): Promise<void> {
  await until('a user comes from the store', async () => {
    const before = cachedAnswers(engine, 'user_basic');
    await engine.getUserById(userId);
    return engine.isRedisAvailable() && cachedAnswers(engine, 'user_basic') > before;
  });
}

export const pending = (engine: Engine): number => engine.getMetrics().store.pendingInvalidations;

/** Asks the same question over and over until told to stop, and keeps every answer that is not the truth. */
export class Witness {
  readonly lies: string[] = [];
  answers = 0;
  #stopped = false;
  readonly #ended: Promise<void>;

  constructor(private readonly questions: readonly (() => Promise<string | undefined>)[]) {
    this.#ended = this.#ask();
  }

  async #ask(): Promise<void> {
    while (!this.#stopped) {
      for (const question of this.questions) {
        const lie = await question().catch((error: unknown) => `rejected: ${String(error)}`);
        if (lie !== undefined) this.lies.push(lie);
        this.answers += 1;
      }
      // A turn of the event loop, so that the test itself goes on.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async stop(): Promise<readonly string[]> {
    this.#stopped = true;
    await this.#ended;
    return this.lies;
  }
}

/** Changes a setting of a server and answers how to put it back. */
export async function configured(server: Server, name: string, value: string): Promise<() => Promise<void>> {
  const [, before] = (await server.command('CONFIG', 'GET', name)) as [string, string];
  await server.command('CONFIG', 'SET', name, value);
  return async () => {
    await server.command('CONFIG', 'SET', name, before);
  };
}
