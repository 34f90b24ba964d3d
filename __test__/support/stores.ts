/**
 * Every store the product runs on, started for a suite. Not the behaviour: the specs say what must be the same on
 * all of them. Invariant: what a store cannot do is stated here as data, so that no test skips itself.
 */
import type { EngineOptions } from '../../index.js';
import {
  type Argument,
  type Cluster,
  type Server,
  startCluster,
  startProxy,
  startValkey,
} from '../servers/index.mjs';
import { rounds } from './rounds.js';

export interface TestStore extends AsyncDisposable {
  /** What an engine needs to reach it. */
  readonly options: EngineOptions;
  /** Key and value of everything stored, read behind the product's back; empty where nobody can look. */
  dump(): Promise<[key: string, value: string][]>;
  /** One command, past the product; follows redirections. Rejects where there is no server. */
  command(...args: Argument[]): Promise<unknown>;
  /** Only of a cluster. */
  readonly cluster?: Cluster | undefined;
}

export interface StoreKind {
  readonly name: string;
  /** Whether two engines see each other through it. */
  readonly shared: boolean;
  /** Whether anything is stored at all. */
  readonly caches: boolean;
  readonly clustered: boolean;
  /** What `getHealth` finds at the other end. */
  readonly mode: 'standalone' | 'cluster' | 'embedded' | 'none';
  start(): Promise<TestStore>;
}

/** Long enough that a busy test machine does not open the breaker by itself. */
const patient: EngineOptions = { cacheDeadlineMs: 2_000, cacheConnectTimeoutMs: 5_000 };

/** Environment variables as options, so that the engines of one process can differ. */
export function optionsOf(variables: Readonly<Record<string, string>>): EngineOptions {
  const options: Record<string, unknown> = {};
  for (const [name, text] of Object.entries(variables)) {
    const option = name.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    options[option] = name === 'REDIS_PORT' ? Number(text) : name === 'REDIS_TLS' ? text === 'true' : text;
  }
  return options;
}

async function dumpOf(servers: readonly Server[]): Promise<[string, string][]> {
  const pairs: [string, string][] = [];
  for (const server of servers) {
    for (const key of (await server.command('KEYS', '*')) as string[]) {
      pairs.push([key, String(await server.command('GET', key))]);
    }
  }
  return pairs;
}

function ofServer(server: Server, more: EngineOptions = {}, stop = () => server.stop()): TestStore {
  return {
    options: { ...optionsOf(server.env), ...patient, ...more },
    dump: () => dumpOf([server]),
    command: (...args) => server.command(...args),
    [Symbol.asyncDispose]: stop,
  };
}

function inProcess(cacheStore: 'embedded' | 'none'): TestStore {
  return {
    options: { cacheStore },
    dump: async () => [],
    command: async () => {
      throw new Error(`the store ${cacheStore} has no server`);
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

export const valkey: StoreKind = {
  name: 'Valkey, standalone',
  shared: true,
  caches: true,
  clustered: false,
  mode: 'standalone',
  start: async () => ofServer(await startValkey()),
};

export const cluster: StoreKind = {
  name: 'cluster of 3 + 3',
  shared: true,
  caches: true,
  clustered: true,
  mode: 'cluster',
  start: async () => {
    const nodes = await startCluster();
    return {
      options: { ...optionsOf(nodes.env), ...patient },
      cluster: nodes,
      dump: async () => dumpOf(await nodes.masters()),
      command: (...args) => nodes.command(...args),
      [Symbol.asyncDispose]: () => nodes.stop(),
    };
  },
};

const everyStore: readonly StoreKind[] = [
  valkey,
  {
    name: 'Redis 7, TLS and an ACL user',
    shared: true,
    caches: true,
    clustered: false,
    mode: 'standalone',
    start: async () => {
      const acl = { username: 'app', password: 'p@ss:w/ord?#%' };
      const server = await startValkey({ kind: 'redis', tls: true, acl });
      return ofServer(server, { redisTlsCa: server.ca, redisKeyPrefix: 'tenant-a:' });
    },
  },
  cluster,
  {
    name: 'the rules of a serverless offering',
    shared: true,
    caches: true,
    clustered: false,
    // One node owns every slot and speaks the cluster protocol.
    mode: 'cluster',
    start: async () => {
      const server = await startValkey();
      const proxy = await startProxy({ port: server.port, refuse: 'serverless' });
      return ofServer(server, { redisPort: proxy.port }, async () => {
        await proxy.stop();
        await server.stop();
      });
    },
  },
  {
    name: 'embedded',
    shared: false,
    caches: true,
    clustered: false,
    mode: 'embedded',
    start: async () => inProcess('embedded'),
  },
  {
    name: 'none',
    shared: false,
    caches: false,
    clustered: false,
    mode: 'none',
    start: async () => inProcess('none'),
  },
];

/** A short run leaves out those whose server or protocol differs and whose behaviour is the same. */
export const stores = everyStore.filter(
  ({ name }) =>
    rounds(1, 0) === 1 || ['Valkey, standalone', 'cluster of 3 + 3', 'embedded', 'none'].includes(name),
);

/** The same without the cluster, for suites that are long. */
export const simpleStores = stores.filter(({ clustered }) => rounds(1, 0) === 1 || !clustered);
