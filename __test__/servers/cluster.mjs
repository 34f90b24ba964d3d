/**
 * Three masters and three replicas, joined with plain cluster commands. No slot migration, no resizing.
 * Invariant: `start`, `failover` and `ready` resolve only when every running node reports the same masters, all of
 * them running, and every running replica follows its master.
 */
import { until } from './child.mjs';
import { BUS_OFFSET } from './ports.mjs';
import { ReplyError } from './resp.mjs';
import { startNode } from './valkey.mjs';

const MASTERS = 3;
const NODES = 6;
const SLOTS = 16_384;
const AGREE_TIMEOUT_MS = 20_000;
const FAILOVER_ATTEMPT_MS = 5_000;
const FAILOVER_ATTEMPTS = 4;
const REDIRECTS = 8;

/**
 * @typedef {import('./valkey.mjs').ValkeyServer} ValkeyServer
 * @typedef {import('./index.mjs').Cluster} Cluster
 */

/** @param {ValkeyServer} node @returns {Promise<{ first: number, last: number, port: number }[]>} ordered by slot */
async function ranges(node) {
  const reply = /** @type {[number, number, [string, number, string]][]} */ (
    await node.command('CLUSTER', 'SLOTS')
  );
  return reply
    .map(([first, last, master]) => ({ first, last, port: master[1] }))
    .sort((a, b) => a.first - b.first);
}

/** @param {ValkeyServer} node @returns {Promise<{ master: boolean, following?: number, linked?: boolean }>} */
async function role(node) {
  const reply = /** @type {[string, ...unknown[]]} */ (await node.command('ROLE'));
  if (reply[0] === 'master') return { master: true };
  return { master: false, following: Number(reply[2]), linked: reply[3] === 'connected' };
}

/** @implements {Cluster} */
class ValkeyCluster {
  /** @param {ValkeyServer[]} nodes */
  constructor(nodes) {
    this.nodes = nodes;
    const first = /** @type {ValkeyServer} */ (nodes[0]);
    /** @type {Record<string, string>} */
    this.env = { ...first.env, REDIS_MODE: 'cluster' };
  }

  #running() {
    const running = this.nodes.filter((node) => node.running);
    if (running.length === 0) throw new Error('no node of the cluster is running');
    return running;
  }

  /** @param {number} port @returns {ValkeyServer} */
  #at(port) {
    const node = this.nodes.find((candidate) => candidate.port === port);
    if (!node) throw new Error(`no node of this cluster has port ${port}`);
    return node;
  }

  async #agrees() {
    const running = this.#running();
    const views = await Promise.all(running.map(ranges));
    const [view] = views;
    if (!view || views.some((other) => JSON.stringify(other) !== JSON.stringify(view))) return false;
    const covered = view.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    if (covered !== SLOTS || view.some(({ port }) => !this.#at(port).running)) return false;
    const infos = await Promise.all(running.map((node) => node.command('CLUSTER', 'INFO')));
    if (!infos.every((info) => String(info).includes('cluster_state:ok'))) return false;
    const roles = await Promise.all(running.map(role));
    // A node that comes back takes itself for a master, without slots, until it hears of its successor.
    const owners = new Set(view.map(({ port }) => port));
    return roles.every((state, index) =>
      state.master ? owners.has(running[index]?.port ?? 0) : state.linked === true,
    );
  }

  /** Waits until the running nodes agree, for example after `killMaster()` or a node's `restart()`. */
  async ready() {
    const agrees = () => this.#agrees().catch(() => false);
    await until(agrees, AGREE_TIMEOUT_MS, 'the cluster nodes do not agree');
  }

  async masters() {
    const [node] = this.#running();
    const view = await ranges(/** @type {ValkeyServer} */ (node));
    return [...new Set(view.map(({ port }) => port))].map((port) => this.#at(port));
  }

  /** @param {number} index */
  async #master(index) {
    const masters = await this.masters();
    const master = masters[index];
    if (!master) throw new Error(`there is no master ${index}, only ${masters.length}`);
    return master;
  }

  async failover(index = 0) {
    const master = await this.#master(index);
    /** @type {ValkeyServer | undefined} */
    let replica;
    for (const node of this.#running()) {
      const state = await role(node);
      if (!state.master && state.following === master.port) replica = node;
    }
    if (!replica) throw new Error(`master ${index} has no running replica`);
    const promoted = replica;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await promoted.command('CLUSTER', 'FAILOVER');
        // A graceful failover is given up silently by the server when the hand-over takes too long.
        await until(
          async () => (await role(promoted)).master,
          FAILOVER_ATTEMPT_MS,
          'the replica was not promoted',
        );
        break;
      } catch (error) {
        if (attempt === FAILOVER_ATTEMPTS) throw error;
      }
    }
    await this.ready();
    return promoted;
  }

  async killMaster(index = 0) {
    const master = await this.#master(index);
    await master.kill();
    return master;
  }

  /** @param {import('./resp.mjs').Argument[]} args */
  async command(...args) {
    let node = /** @type {ValkeyServer} */ (this.#running()[0]);
    let asking = false;
    for (let redirect = 0; redirect <= REDIRECTS; redirect += 1) {
      try {
        const answers = asking ? [node.command('ASKING'), node.command(...args)] : [node.command(...args)];
        return (await Promise.all(answers)).at(-1);
      } catch (error) {
        if (!(error instanceof ReplyError) || (error.code !== 'MOVED' && error.code !== 'ASK')) throw error;
        asking = error.code === 'ASK';
        node = this.#at(Number(error.message.split(':').at(-1)));
      }
    }
    throw new Error(`more than ${REDIRECTS} redirects`);
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }
}

/** @param {ValkeyServer[]} nodes */
async function join(nodes) {
  const ids = await Promise.all(nodes.map(async (node) => String(await node.command('CLUSTER', 'MYID'))));
  await Promise.all(
    nodes.map(async (node, index) => {
      // Different epochs from the start: equal ones would have to be told apart later, which moves slots about.
      await node.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
      if (index >= MASTERS) return;
      const edge = (/** @type {number} */ part) => Math.floor((part * SLOTS) / MASTERS);
      await node.command('CLUSTER', 'ADDSLOTSRANGE', edge(index), edge(index + 1) - 1);
    }),
  );
  // Every pair is introduced: waiting for gossip to spread would take seconds.
  for (const [index, node] of nodes.entries()) {
    for (const other of nodes.slice(index + 1)) {
      await node.command('CLUSTER', 'MEET', other.host, other.port, other.port + BUS_OFFSET);
    }
  }
  for (const [index, node] of nodes.slice(MASTERS).entries()) {
    const masterId = /** @type {string} */ (ids[index]);
    const follows = () =>
      node.command('CLUSTER', 'REPLICATE', masterId).then(
        () => true,
        () => false,
      );
    await until(follows, AGREE_TIMEOUT_MS, `node ${node.port} does not know master ${masterId}`);
  }
}

/** @param {import('./index.mjs').ClusterOptions} [options] @returns {Promise<ValkeyCluster>} */
export async function startCluster({ kind = 'valkey', args = [] } = {}) {
  const started = await Promise.allSettled(
    Array.from({ length: NODES }, () => startNode({ kind, args, cluster: true })),
  );
  const nodes = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const cluster = nodes.length > 0 ? new ValkeyCluster(nodes) : undefined;
  try {
    const failed = started.find((result) => result.status === 'rejected');
    if (failed || !cluster) throw failed?.reason;
    await join(nodes);
    await cluster.ready();
    return cluster;
  } catch (error) {
    await cluster?.stop();
    throw error;
  }
}
