/**
 * Which slot a key belongs to, and which arguments of a command are keys.
 * Invariant: `keysOf` knows the commands that take several keys; of any other it takes the first argument, unless the
 * command is known to have no key.
 */

const POLYNOMIAL = 0x1021;
const SLOTS = 16_384;

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ POLYNOMIAL : crc << 1;
  return crc & 0xffff;
});

/** @param {string | Uint8Array} key @returns {number} */
export function keySlot(key) {
  const bytes = Buffer.from(key);
  const open = bytes.indexOf('{');
  const close = open < 0 ? -1 : bytes.indexOf('}', open + 1);
  const hashed = close > open + 1 ? bytes.subarray(open + 1, close) : bytes;
  let crc = 0;
  for (const byte of hashed) crc = ((crc << 8) ^ (TABLE[(crc >> 8) ^ byte] ?? 0)) & 0xffff;
  return crc % SLOTS;
}

const ALL = new Set(
  (
    'MGET DEL UNLINK EXISTS TOUCH WATCH SUNION SINTER SDIFF SUNIONSTORE SINTERSTORE SDIFFSTORE PFCOUNT PFMERGE ' +
    'SSUBSCRIBE'
  ).split(' '),
);
const PAIRS = new Set(['MSET', 'MSETNX']);
const FIRST_TWO = new Set(
  'RENAME RENAMENX COPY SMOVE LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH LCS GEOSEARCHSTORE ZRANGESTORE'.split(' '),
);
const ALL_BUT_LAST = new Set(['BLPOP', 'BRPOP', 'BZPOPMIN', 'BZPOPMAX']);
/** Where the number of keys stands. @type {Map<string, number>} */
const COUNTED = new Map(
  [
    ...'EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO BLMPOP BZMPOP'.split(' ').map((name) => [name, 2]),
    ...'ZUNION ZINTER ZDIFF ZINTERCARD SINTERCARD LMPOP ZMPOP'.split(' ').map((name) => [name, 1]),
  ].map(([name, at]) => [String(name), Number(at)]),
);
const COUNTED_WITH_TARGET = new Set(['ZUNIONSTORE', 'ZINTERSTORE', 'ZDIFFSTORE']);
const KEYLESS = new Set(
  (
    'PING ECHO AUTH HELLO SELECT INFO TIME DBSIZE FLUSHDB FLUSHALL SCRIPT CLIENT CLUSTER COMMAND CONFIG MULTI EXEC ' +
    'DISCARD UNWATCH PUBLISH SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE PUBSUB SCAN RANDOMKEY ' +
    'READONLY READWRITE ASKING ROLE RESET QUIT KEYS WAIT ACL LATENCY SLOWLOG MONITOR FUNCTION'
  ).split(' '),
);

/** @param {readonly Buffer[]} args command name first @returns {Buffer[]} */
export function keysOf(args) {
  const name = (args[0] ?? '').toString().toUpperCase();
  if (ALL.has(name)) return args.slice(1);
  if (PAIRS.has(name)) return args.filter((_, index) => index % 2 === 1);
  if (FIRST_TWO.has(name)) return args.slice(1, 3);
  if (ALL_BUT_LAST.has(name)) return args.slice(1, -1);
  if (name === 'BITOP') return args.slice(2);
  if (COUNTED_WITH_TARGET.has(name)) return [...args.slice(1, 2), ...args.slice(3, 3 + Number(args[2]))];
  const counter = COUNTED.get(name);
  if (counter !== undefined) return args.slice(counter + 1, counter + 1 + Number(args[counter]));
  if (name === 'XREAD' || name === 'XREADGROUP') {
    const streams = args.findIndex((arg) => arg.toString().toUpperCase() === 'STREAMS') + 1;
    return args.slice(streams, streams + (args.length - streams) / 2);
  }
  return KEYLESS.has(name) ? [] : args.slice(1, 2);
}
