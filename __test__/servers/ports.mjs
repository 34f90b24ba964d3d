/**
 * Free loopback ports. Not a reservation: a caller whose server cannot bind picks again.
 * Invariant: a port and its cluster bus port (+10000) both lie below the range the kernel takes for outgoing
 * connections, so that nothing occupies them while a killed server waits for its restart.
 */
import { createServer } from 'node:net';

const FIRST = 12_000;
const COUNT = 10_000;
export const BUS_OFFSET = 10_000;
const ATTEMPTS = 200;

/** @type {Set<number>} */
const handedOut = new Set();

/** @param {number} port @returns {Promise<boolean>} */
function canBind(port) {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

/** @returns {Promise<number>} */
export async function freePort() {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (handedOut.has(port)) continue;
    if ((await canBind(port)) && (await canBind(port + BUS_OFFSET))) {
      handedOut.add(port);
      return port;
    }
  }
  throw new Error(`no free port between ${FIRST} and ${FIRST + COUNT} after ${ATTEMPTS} attempts`);
}
