/**
 * What a restricted server says to a request: the rules of a serverless offering, where one virtual node owns every
 * slot, or a plain list of refused commands. Pure: knows no socket and no other connection.
 * Invariant: `judge` answers for one request alone; what depends on earlier requests is the gate's part.
 */
import { createHash } from 'node:crypto';
import { keySlot, keysOf } from './slots.mjs';

const MAX_ARGUMENTS = 3_999;

/** Refused as a whole, or only one subcommand (`NAME SUB`). */
export const serverlessCommands = Object.freeze(
  [
    'KEYS CONFIG MEMORY OBJECT SLOWLOG COMMANDLOG LATENCY MONITOR WAIT WAITAOF FUNCTION FCALL FCALL_RO PSUBSCRIBE',
    'PUNSUBSCRIBE PUBSUB DEBUG SAVE BGSAVE BGREWRITEAOF LASTSAVE REPLICAOF SLAVEOF FAILOVER MIGRATE MODULE PSYNC SYNC',
    'SHUTDOWN SWAPDB MOVE SELECT',
  ]
    .join(' ')
    .split(' ')
    .concat(
      [
        'TRACKING',
        'TRACKINGINFO',
        'CACHING',
        'GETREDIR',
        'LIST',
        'KILL',
        'ID',
        'INFO',
        'PAUSE',
        'UNPAUSE',
        'UNBLOCK',
        'NO-EVICT',
        'NO-TOUCH',
        'REPLY',
      ].map((sub) => `CLIENT ${sub}`),
    ),
);

/** The cluster subcommands that exist there; all others change or inspect a cluster that is not ours. */
const CLUSTER_READS = new Set(
  'SLOTS SHARDS NODES INFO MYID KEYSLOT COUNTKEYSINSLOT GETKEYSINSLOT REPLICAS SLAVES LINKS'.split(' '),
);
const SCRIPTS = new Set(['EVAL', 'EVAL_RO']);
const SCRIPT_CALLS = new Set([...SCRIPTS, 'EVALSHA', 'EVALSHA_RO']);
const ANSWERED_OK = new Set(['READONLY', 'READWRITE', 'ASKING']);

/** A status reply, where a plain string would be a bulk string. */
export class Status {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
}

/** @typedef {string | number | null | Status | Error | readonly unknown[] | ReadonlyMap<string, unknown>} Reply nested values are replies too */
/** @typedef {{ reply: Reply } | { rewrite: (frame: Buffer) => Buffer } | undefined} Verdict undefined: forward */
/** @typedef {{ judge: (args: readonly Buffer[]) => Verdict, slots: boolean }} Rules `slots`: a transaction is held to one slot */

/** @param {Reply} value @param {2 | 3} protocol @returns {string} */
export function encodeReply(value, protocol) {
  if (value === null) return protocol === 3 ? '_\r\n' : '$-1\r\n';
  if (value instanceof Status) return `+${value.text}\r\n`;
  if (value instanceof Error) return `-${value.message}\r\n`;
  if (typeof value === 'number') return `:${value}\r\n`;
  if (typeof value === 'string') return `$${Buffer.byteLength(value)}\r\n${value}\r\n`;
  if (Array.isArray(value)) {
    return `*${value.length}\r\n${value.map((item) => encodeReply(/** @type {Reply} */ (item), protocol)).join('')}`;
  }
  const entries = /** @type {ReadonlyMap<string, Reply>} */ (value);
  const items = [...entries].map(([key, item]) => encodeReply(key, protocol) + encodeReply(item, protocol));
  return `${protocol === 3 ? `%${items.length}` : `*${2 * items.length}`}\r\n${items.join('')}`;
}

/** @param {readonly Buffer[]} args @param {number} index */
const word = (args, index) => (args[index] ?? '').toString().toUpperCase();

/** @param {string} message @returns {Verdict} */
const fail = (message) => ({ reply: new Error(message) });

/** @param {readonly Buffer[]} args @returns {Verdict} */
function unknown(args) {
  const name = (args[0] ?? '')
    .toString('latin1')
    .replace(/[\r\n]/g, ' ')
    .slice(0, 64);
  return fail(`ERR unknown command '${name}', with args beginning with: `);
}

/** @param {string} script @param {Set<string>} refused */
function callsRefused(script, refused) {
  const calls = script.matchAll(/(?:redis|server)\s*\.\s*p?call\s*\(\s*(['"])(\w+)\1/gi);
  return (
    [...calls].some(([, , name]) => refused.has((name ?? '').toUpperCase())) || /(['"])TIME\1/i.test(script)
  );
}

/** One virtual node that owns every slot, at the proxy's own address. @param {number} port */
function oneNode(port) {
  const id = createHash('sha1').update(`virtual node ${port}`).digest('hex');
  const last = 16_383;
  /** @type {Map<string, Reply>} */
  const node = new Map(
    Object.entries({
      id,
      port,
      ip: '127.0.0.1',
      endpoint: '127.0.0.1',
      role: 'master',
      'replication-offset': 0,
      health: 'online',
    }),
  );
  /** @type {Record<string, Reply>} */
  const replies = {
    SLOTS: [[0, last, ['127.0.0.1', port, id, []]]],
    SHARDS: [new Map(Object.entries({ slots: /** @type {Reply} */ ([0, last]), nodes: [node] }))],
    NODES: `${id} 127.0.0.1:${port}@1122 myself,master - 0 0 1 connected 0-${last}\n`,
    INFO:
      'cluster_enabled:1\r\ncluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n' +
      'cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\n',
    MYID: id,
    REPLICAS: [],
    SLAVES: [],
    LINKS: [],
  };
  return replies;
}

const INFO_TEXT =
  '# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nredis_mode:cluster\r\nos:Linux\r\narch_bits:64\r\n' +
  'run_id:0\r\n# Cluster\r\ncluster_enabled:1\r\n';

/** The upstream server is standalone and says so in HELLO. @param {Buffer} frame */
function saysCluster(frame) {
  return Buffer.from(
    frame.toString('latin1').replace('$10\r\nstandalone\r\n', '$7\r\ncluster\r\n'),
    'latin1',
  );
}

/** @param {number} port the proxy's @returns {Rules} */
export function serverlessRules(port) {
  const refused = new Set(serverlessCommands);
  const inScripts = new Set([...refused, 'TIME']);
  const node = oneNode(port);

  /** @param {readonly Buffer[]} args @returns {Verdict} */
  const cluster = (args) => {
    const sub = word(args, 1);
    if (!CLUSTER_READS.has(sub)) return unknown(args);
    if (sub === 'KEYSLOT') return { reply: keySlot(args[2] ?? Buffer.alloc(0)) };
    // The upstream server does not index keys by slot.
    if (sub === 'COUNTKEYSINSLOT') return { reply: 0 };
    if (sub === 'GETKEYSINSLOT') return { reply: [] };
    return { reply: node[sub] ?? null };
  };

  /** @param {readonly Buffer[]} args @returns {Verdict} */
  const judge = (args) => {
    const name = word(args, 0);
    if (args.length - 1 > MAX_ARGUMENTS)
      return fail(`ERR more than ${MAX_ARGUMENTS} arguments in one request`);
    if (refused.has(name) || refused.has(`${name} ${word(args, 1)}`)) return unknown(args);
    if (name === 'ACL' && word(args, 1) !== 'WHOAMI') return unknown(args);
    if (name === 'CLUSTER') return cluster(args);
    if (name === 'INFO') return { reply: INFO_TEXT };
    if (name === 'HELLO') return { rewrite: saysCluster };
    if (ANSWERED_OK.has(name)) return { reply: new Status('OK') };
    if (SCRIPTS.has(name) || (name === 'SCRIPT' && word(args, 1) === 'LOAD')) {
      const script = (args[SCRIPTS.has(name) ? 1 : 2] ?? '').toString();
      if (callsRefused(script, inScripts)) {
        return fail('ERR Error running script: This Redis command is not allowed from script');
      }
    }
    if (SCRIPT_CALLS.has(name) && word(args, 2) === '0')
      return fail('ERR a script needs at least one key here');
    const slots = new Set(keysOf(args).map(keySlot));
    return slots.size > 1 ? fail(crossSlot) : undefined;
  };
  return { judge, slots: true };
}

export const crossSlot = "CROSSSLOT Keys in request don't hash to the same slot";

/** @param {readonly string[]} commands `NAME` or `NAME SUB` @returns {Rules} */
export function listRules(commands) {
  const refused = new Set(commands.map((command) => command.toUpperCase()));
  return {
    judge: (args) => {
      const name = word(args, 0);
      return refused.has(name) || refused.has(`${name} ${word(args, 1)}`) ? unknown(args) : undefined;
    },
    slots: false,
  };
}
