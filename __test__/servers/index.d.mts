/** Types of `index.mjs`, for TypeScript specs. The implementation declares that it fulfils them. */

export type Argument = string | number | Uint8Array;
export type ServerKind = 'valkey' | 'redis';

export interface ValkeyOptions {
  /** Default `valkey`; with `tls` it is `redis`, because the Valkey that can be fetched has no TLS. */
  kind?: ServerKind | undefined;
  /** Default: a free one. */
  port?: number | undefined;
  /** More arguments of the server program, such as `['--maxmemory', '10mb']`. */
  args?: string[] | undefined;
  tls?: boolean | undefined;
  /** Switches the default user off; this one may do everything. */
  acl?: { username: string; password: string } | undefined;
}

interface Controls extends AsyncDisposable {
  /** Undefined while the server is not running. */
  readonly pid: number | undefined;
  readonly running: boolean;
  readonly port: number;
  readonly version: string;
  /** Stops the process and its children with SIGSTOP: connections stay open, nothing answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** SIGKILL; resolves when the process is gone. The port stays reserved for `restart()`. */
  kill(): Promise<void>;
  /** Kills when running, then starts on the same port with the same arguments. */
  restart(): Promise<void>;
  /** For good; also removes the folder. */
  stop(): Promise<void>;
}

export interface Server extends Controls {
  readonly kind: ServerKind;
  readonly host: '127.0.0.1';
  /** Path of the certificate authority of a TLS server. */
  readonly ca: string | undefined;
  /** REDIS_HOST, REDIS_PORT, and where they apply REDIS_TLS, REDIS_USERNAME, REDIS_PASSWORD. */
  readonly env: Record<string, string>;
  /** Error replies reject with `ReplyError`; bulk strings are decoded as UTF-8. */
  command(...args: Argument[]): Promise<unknown>;
}

export interface ClusterOptions {
  kind?: ServerKind | undefined;
  args?: string[] | undefined;
}

export interface Cluster extends AsyncDisposable {
  /** Six, masters or replicas by turns. */
  readonly nodes: Server[];
  readonly env: Record<string, string>;
  /** Ordered by their first slot, as a running node sees them. */
  masters(): Promise<Server[]>;
  /** Graceful: promotes the replica of a master, waits until all agree, and answers the new master. */
  failover(index?: number): Promise<Server>;
  /** Answers the killed master at once; its replica takes over after about two seconds (`ready()`). */
  killMaster(index?: number): Promise<Server>;
  /** Resolves when all running nodes agree on running masters and replicas follow theirs. */
  ready(): Promise<void>;
  /** Follows MOVED and ASK. */
  command(...args: Argument[]): Promise<unknown>;
  stop(): Promise<void>;
}

export interface PostgresOptions {
  /** With a certificate of its own authority; plain connections are refused, and other roles need a password. */
  tls?: boolean | undefined;
  /** Whom the certificate is for, as OpenSSL writes it; default `IP:127.0.0.1,DNS:localhost`. */
  certificateNames?: string | undefined;
}

export interface PostgresServer extends Controls {
  /** Of the database `postgres`, as superuser `postgres` without password; with TLS it verifies the server in full. */
  readonly url: string;
  /** Path of the certificate authority of a TLS server. */
  readonly ca: string | undefined;
  /** What the server has logged since it was first started. */
  log(): string;
  query<Row extends object = Record<string, unknown>>(sql: string, params?: unknown[]): Promise<Row[]>;
  /** Answers the URL of the new database. */
  createDatabase(name: string): Promise<string>;
}

export interface PgbouncerOptions {
  /** Of the Postgres behind, on 127.0.0.1, which must let `postgres` in without password. */
  port: number;
  /** Server connections per database and user, which all clients share; default 2. */
  poolSize?: number | undefined;
  /** Startup parameters that are accepted and have no effect; others that it does not know are refused. */
  ignoreStartupParameters?: string[] | undefined;
}

export interface Pgbouncer extends Controls {
  /** The same database, reached through the pooler. */
  through(url: string): string;
  /** What the server has logged since it was first started. */
  log(): string;
}

export interface Faults {
  /** Holds every reply back for so long; the order stays. */
  delayMs?: number | undefined;
  /** Half of the next reply chunk, then the end of the connection. */
  truncateReplies?: boolean | undefined;
  /** Random bytes instead of replies. */
  garbageReplies?: boolean | undefined;
  /** Nothing listens; open connections are reset. */
  refuseConnections?: boolean | undefined;
  /**
   * Accepts and never answers. A connection that lost bytes this way stays silent afterwards, as behind a router that
   * forgot it; new connections work again.
   */
  blackhole?: boolean | undefined;
  /** Commands answered with an error (`NAME` or `NAME SUB`), or the rules of a serverless offering. */
  refuse?: 'serverless' | string[] | undefined;
}

export interface ProxyOptions extends Faults {
  /** Of the server behind, on 127.0.0.1. */
  port: number;
}

export interface FaultProxy extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** Named faults change, the others stay. Await it when `refuseConnections` changes. */
  set(faults: Faults): Promise<void>;
  /** Ends all faults. */
  reset(): Promise<void>;
  /** Open connections of clients. */
  connections(): number;
  stop(): Promise<void>;
}

export class ReplyError extends Error {
  /** First word of the error reply, such as `ERR` or `CROSSSLOT`. */
  readonly code: string;
}

export const serverlessCommands: readonly string[];

export function keySlot(key: string | Uint8Array): number;
export function startValkey(options?: ValkeyOptions): Promise<Server>;
export function startCluster(options?: ClusterOptions): Promise<Cluster>;
export function startPostgres(options?: PostgresOptions): Promise<PostgresServer>;
export function startPgbouncer(options: PgbouncerOptions): Promise<Pgbouncer>;
export function startProxy(options: ProxyOptions): Promise<FaultProxy>;
