/**
 * A process that uses the package once and then has nothing to do any more. It never closes the engine: the test
 * watches whether it ends by itself. Prints one JSON line: how each call ended.
 *
 * argv[2]: JSON of engine options; `null` uses the default engine and the environment.
 */
import { createRequire } from 'node:module';

const api = createRequire(import.meta.url)('../../index.js');
const options = JSON.parse(process.argv[2] ?? 'null');
const engine = options === null ? api : api.createEngine(options);

/** @param {Promise<unknown>} call */
const ended = (call) => call.then(String, (error) => error.code ?? String(error));

const endings = await Promise.all([
  ended(engine.isTokenBlacklisted('a token')),
  ended(engine.getCachedTokenBlacklistStatus('a token')),
  ended(engine.invalidateTokenCache('another token').then(({ queued }) => `queued ${queued}`)),
]);
process.stdout.write(`${JSON.stringify(endings)}\n`);
