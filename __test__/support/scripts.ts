/**
 * Scripts run as ordinary Node processes, without a channel that would keep them alive. Not for conversations: a
 * script prints what it saw as JSON, one object per line. Invariant: a script that does not end by itself is killed by
 * its id, and that is an error.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';

export interface Run {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
  /** What the script printed, all lines in one object. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** From its last line to its end. */
  readonly endedAfterMs: number;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly withinMs?: number;
}

const environment = (): NodeJS.ProcessEnv => {
  const own = Object.entries(process.env).filter(
    // Neither this machine's settings nor what the test runner sets for its own modules.
    ([name]) => !/^(REDIS|UPSTASH|CACHE|DATABASE|ANALYTICS|JWT_USER|NODE_|VITEST|NEXT_)/.test(name),
  );
  return Object.fromEntries(own);
};

/** `script` is a file of this folder. */
export function run(script: string, args: readonly string[], options: RunOptions = {}): Promise<Run> {
  const { env = {}, withinMs = 60_000 } = options;
  const child = spawn(process.execPath, ['--expose-gc', join(__dirname, script), ...args], {
    env: { ...environment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr, spokeAt, timedOut] = ['', '', performance.now(), false];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    spokeAt = performance.now();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, withinMs);
  let endedAt = 0;
  child.once('exit', () => {
    endedAt = performance.now();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (timedOut) {
        reject(
          new Error(`${script} ${args.join(' ')} did not end within ${withinMs} ms: ${stdout}${stderr}`),
        );
        return;
      }
      const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
      const facts = Object.assign({}, ...lines.map((line) => JSON.parse(line) as object));
      resolve({ code, signal, stderr, facts, endedAfterMs: endedAt - spokeAt });
    });
  });
}
