/**
 * The clients we are compared with, each in the configuration its documentation gives for one server. Not tuned by us,
 * apart from limits that would end a run at 1,000 concurrent calls.
 */

import { GlideClient } from '@valkey/valkey-glide';
import { Redis } from 'ioredis';
import { createClient } from 'redis';

/**
 * @typedef {object} Peer
 * @property {string} name
 * @property {(key: string) => Promise<unknown>} get
 */

/**
 * @template T
 * @param {import('../__test__/servers/index.mjs').Server} server @param {(peers: Peer[]) => Promise<T>} body
 */
export async function withPeers({ host, port }, body) {
  const plain = new Redis({ host, port });
  const pipelining = new Redis({ host, port, enableAutoPipelining: true });
  const node = await createClient({ socket: { host, port } }).connect();
  const glide = await GlideClient.createClient({
    addresses: [{ host, port }],
    requestTimeout: 5_000,
    inflightRequestsLimit: 4_000,
  });
  try {
    return await body([
      { name: 'ioredis', get: (key) => plain.get(key) },
      { name: 'ioredis auto-pipelining', get: (key) => pipelining.get(key) },
      { name: 'node-redis', get: (key) => node.get(key) },
      { name: 'valkey-glide', get: (key) => glide.get(key) },
    ]);
  } finally {
    plain.disconnect();
    pipelining.disconnect();
    node.destroy();
    glide.close();
  }
}
