/**
 * A worker thread leads the verification of a token and is ended; the main thread, which waited for it, must verify
 * itself. Prints what the main thread got. Invariant: the thread's own `verify` never ends.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { load, tell } from './script-tools.mjs';

const CALLERS = 10;
const parts = [{ alg: 'HS256' }, { jti: 'a token', user_id: 'a user', exp: 4_000_000_000 }];
const TOKEN = `${parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.signature`;

const api = load();

async function main() {
  const worker = new Worker(fileURLToPath(import.meta.url));
  await once(worker, 'message');
  let verifications = 0;
  let answered = 0;
  const calls = Array.from({ length: CALLERS }, async () => {
    const payload = await api.verifyTokenCached(TOKEN, () => {
      verifications += 1;
      return { jti: 'a token', user_id: 'a user', verified: 'of the main thread' };
    });
    answered += 1;
    return payload.verified;
  });
  await sleep(200);
  const waited = answered === 0 && verifications === 0;
  const began = performance.now();
  await worker.terminate();
  const payloads = [...new Set(await Promise.all(calls))];
  tell({ waited, payloads, verifications, tookMs: performance.now() - began });
}

async function thread() {
  // A promise alone keeps no thread alive, and this one must be alive until it is ended.
  setInterval(() => undefined, 1_000);
  await api.verifyTokenCached(TOKEN, () => {
    parentPort?.postMessage('leads');
    return new Promise(() => undefined);
  });
}

await (isMainThread ? main() : thread());
