/** The servers that other specs rely on do what their types promise. Needs no product code. */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Cluster,
  type FaultProxy,
  keySlot,
  type Server,
  startCluster,
  startProxy,
  startValkey,
} from './index.mjs';

/** Sends bytes over a new connection and answers what came back within the time, and how the connection stands. */
async function exchange(
  port: number,
  request: string,
  waitMs: number,
): Promise<{ text: string; state: string }> {
  const socket = connect({ host: '127.0.0.1', port });
  let text = '';
  let state = 'open';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    state = error.code ?? 'error';
  });
  socket.on('end', () => {
    state = 'ended';
  });
  socket.write(request);
  await sleep(waitMs);
  socket.destroy();
  return { text, state };
}

/** Whether a promise settles within the time. */
async function settles(promise: Promise<unknown>, withinMs: number): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, sleep(withinMs, false)]);
}

describe.each(['valkey', 'redis'] as const)('standalone %s', (kind) => {
  let server: Server;
  beforeAll(async () => {
    server = await startValkey({ kind });
  }, 180_000);
  afterAll(() => server?.stop());

  it('answers commands and rejects on error replies', async () => {
    expect(await server.command('PING')).toBe('PONG');
    expect(await server.command('SET', 'k', 'ä')).toBe('OK');
    expect(await server.command('MGET', 'k', 'absent')).toEqual(['ä', null]);
    await expect(server.command('INCR', 'k')).rejects.toMatchObject({ name: 'ReplyError', code: 'ERR' });
    expect(server.env.REDIS_PORT).toBe(String(server.port));
  });

  it('hangs while paused and goes on when resumed', async () => {
    await server.pause();
    const reply = server.command('PING');
    expect(await settles(reply, 100)).toBe(false);
    await server.resume();
    expect(await reply).toBe('PONG');
  });

  it('is gone when killed and empty when restarted, on the same port', async () => {
    const { pid, port } = server;
    await server.kill();
    expect(server.pid).toBeUndefined();
    await expect(server.command('PING')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await server.restart();
    expect(server.port).toBe(port);
    expect(server.pid).not.toBe(pid);
    expect(await server.command('GET', 'k')).toBeNull();
  });
});

describe('TLS with an ACL user', () => {
  it('answers the user over TLS only', async () => {
    const acl = { username: 'app', password: 's3cret' };
    await using server = await startValkey({ tls: true, acl });
    expect(await server.command('ACL', 'WHOAMI')).toBe('app');
    expect(server.env).toMatchObject({ REDIS_TLS: 'true', REDIS_USERNAME: 'app', REDIS_PASSWORD: 's3cret' });
    expect(server.ca).toMatch(/ca\.crt$/);
    expect((await exchange(server.port, 'PING\r\n', 100)).text).not.toContain('PONG');
  });
});

describe.each(['valkey', 'redis'] as const)('cluster of %s', (kind) => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster({ kind });
  }, 60_000);
  afterAll(() => cluster?.stop());

  it('spreads keys over three masters', async () => {
    const keys = Array.from({ length: 20 }, (_, index) => `key:${index}`);
    for (const key of keys) await cluster.command('SET', key, key);
    for (const key of keys) expect(await cluster.command('GET', key)).toBe(key);
    const masters = await cluster.masters();
    expect(masters).toHaveLength(3);
    for (const master of masters) expect(await master.command('DBSIZE')).toBeGreaterThan(0);
    expect(await cluster.command('CLUSTER', 'KEYSLOT', 'a{user}b')).toBe(keySlot('a{user}b'));
  });

  it('keeps data in a graceful failover', async () => {
    const before = await cluster.masters();
    const promoted = await cluster.failover(1);
    const after = await cluster.masters();
    expect(after[1]).toBe(promoted);
    expect(after[1]).not.toBe(before[1]);
    for (let index = 0; index < 20; index += 1) {
      expect(await cluster.command('GET', `key:${index}`)).toBe(`key:${index}`);
    }
  }, 20_000);

  it('replaces a killed master, and takes it back as a replica', async () => {
    const killed = await cluster.killMaster(0);
    await cluster.ready();
    expect(await cluster.masters()).not.toContain(killed);
    await killed.restart();
    await cluster.ready();
    expect(await killed.command('ROLE')).toMatchObject({ 0: 'slave' });
  }, 40_000);
});

describe('proxy', () => {
  const ping = '*1\r\n$4\r\nPING\r\n';
  let server: Server;
  let proxy: FaultProxy;
  beforeAll(async () => {
    server = await startValkey();
    proxy = await startProxy({ port: server.port });
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });

  it('passes everything without faults', async () => {
    expect(await exchange(proxy.port, ping, 50)).toEqual({ text: '+PONG\r\n', state: 'open' });
    await sleep(20);
    expect(proxy.connections()).toBe(0);
  });

  it('delays, cuts and spoils replies', async () => {
    await proxy.set({ delayMs: 100 });
    expect((await exchange(proxy.port, ping, 50)).text).toBe('');
    expect((await exchange(proxy.port, ping, 200)).text).toBe('+PONG\r\n');
    await proxy.set({ delayMs: 0, truncateReplies: true });
    expect(await exchange(proxy.port, ping, 50)).toEqual({ text: '+PO', state: 'ended' });
    await proxy.set({ truncateReplies: false, garbageReplies: true });
    const { text } = await exchange(proxy.port, ping.repeat(4), 50);
    expect(text).toHaveLength(28);
    expect(text).not.toContain('PONG');
    await proxy.reset();
  });

  it('refuses and swallows connections, open ones as well', async () => {
    const open = exchange(proxy.port, ping, 200);
    await sleep(50);
    await proxy.set({ refuseConnections: true });
    expect((await exchange(proxy.port, ping, 50)).state).toBe('ECONNREFUSED');
    // Which of the two the client sees depends on what the kernel delivers first.
    expect((await open).state).toMatch(/^(ECONNRESET|ended)$/);
    await proxy.set({ refuseConnections: false, blackhole: true });
    expect(await exchange(proxy.port, ping, 50)).toEqual({ text: '', state: 'open' });
    await proxy.reset();
    expect((await exchange(proxy.port, ping, 50)).text).toBe('+PONG\r\n');
  });

  it('answers like one serverless node, in the order of the requests', async () => {
    await proxy.set({ refuse: 'serverless' });
    const refused = /^-ERR unknown command/;
    const script = "return redis.call('TIME')";
    const cases: [string, RegExp][] = [
      ['SET a 1', /^\+OK/],
      ['KEYS *', refused],
      ['GET a', /^\$1\r\n1/],
      ['CLIENT TRACKING on', refused],
      ['ACL LIST', refused],
      ['ACL WHOAMI', /^\$7\r\ndefault/],
      ['MGET a b', /^-CROSSSLOT /],
      ['MGET {t}a {t}b', /^\*2/],
      ['INFO', /redis_mode:cluster[\s\S]*cluster_enabled:1/],
      ['CLUSTER SLOTS', new RegExp(`^\\*1\\r\\n\\*3\\r\\n:0\\r\\n:16383\\r\\n[\\s\\S]*:${proxy.port}\\r\\n`)],
      ['CLUSTER NODES', /myself,master - 0 0 1 connected 0-16383/],
      ['CLUSTER FAILOVER', refused],
      ['HELLO 2', /\$4\r\nmode\r\n\$7\r\ncluster/],
      [`EVAL|${script}|1|a`, /not allowed from script/],
      ['EVAL|return 1|1|a', /^:1/],
      [`DEL ${'{t}x '.repeat(4_000).trim()}`, /^-ERR more than 3999/],
      [`DEL ${'{t}x '.repeat(3_999).trim()}`, /^:0/],
      ['MULTI', /^\+OK/],
      ['SET a 2', /^\+QUEUED/],
      ['SET b 2', /^\+QUEUED/],
      ['EXEC', /^-CROSSSLOT /],
      ['MULTI', /^\+OK/],
      ['KEYS *', refused],
      ['EXEC', /^-EXECABORT /],
      ['SUBSCRIBE c d', /^\*3\r\n\$9\r\nsubscribe\r\n\$1\r\nc[\s\S]*\*3\r\n\$9\r\nsubscribe\r\n\$1\r\nd/],
      ['UNSUBSCRIBE', /^\*3[\s\S]*\*3[\s\S]*:0/],
      ['PING', /^\+PONG/],
    ];
    const encode = (command: string): string => {
      const args = command.split(command.includes('|') ? '|' : ' ');
      return `*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join('')}`;
    };
    for (const [command, expected] of cases.slice(0, 17)) {
      const { text } = await exchange(proxy.port, encode(command), 100);
      expect(text, command.slice(0, 60)).toMatch(expected);
    }
    const all = await exchange(proxy.port, cases.map(([command]) => encode(command)).join(''), 300);
    let rest = all.text;
    for (const [command, { source }] of cases) {
      const next = new RegExp(source.replace(/^\^/, '')).exec(rest);
      expect(next, command.slice(0, 60)).not.toBeNull();
      rest = rest.slice((next?.index ?? 0) + (next?.[0].length ?? 0));
    }
    expect(all.text.endsWith('+PONG\r\n')).toBe(true);
    await proxy.set({ refuse: ['GET'] });
    expect((await exchange(proxy.port, ['GET a', 'KEYS a'].map(encode).join(''), 50)).text).toMatch(
      /^-ERR unknown command 'GET'[\s\S]*\*1\r\n\$1\r\na\r\n$/,
    );
    await proxy.reset();
  });
});
