/**
 * What having the package costs a process: size of the add-on, time of `require`, memory while idle. Each figure is the
 * median over fresh child processes, taken by turns with a bare Node.
 */

import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { median } from './measure.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Runs `script` in a child that prints one number. @param {string} script @param {Record<string, string>} [env] */
function child(script, env) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  const number = Number.parseFloat(stdout);
  if (status !== 0 || Number.isNaN(number)) throw new Error(`a measuring child failed: ${stderr}`);
  return number;
}

const timed = (/** @type {string} */ module) =>
  `const t = process.hrtime.bigint(); require('${module}'); console.log(Number(process.hrtime.bigint() - t) / 1e6)`;
const idle = (/** @type {string} */ before) =>
  `(async () => { ${before}; await new Promise((done) => setTimeout(done, 400)); console.log(process.memoryUsage.rss() / 1e6); process.exit(0) })()`;

/** @type {import('./report.mjs').Measurement['run']} */
export async function footprint({ server, children, progress }) {
  const files = readdirSync(root).filter((name) => name.endsWith('.node'));
  const bytes = Math.max(...files.map((name) => statSync(`${root}/${name}`).size));
  const scripts = {
    package: timed('./index.js'),
    addon: timed('./native.js'),
    bare: idle(''),
    required: idle("require('./index.js')"),
    connected: idle("await require('./index.js').isTokenBlacklisted('x').catch(() => {})"),
  };
  const env = { ...server.env, REDIS_KEY_PREFIX: 'idle:' };
  /** @type {Record<string, number[]>} */
  const taken = Object.fromEntries(Object.keys(scripts).map((name) => [name, []]));
  for (let round = 0; round <= children; round += 1) {
    progress(`footprint: child processes, round ${round} of ${children}`);
    for (const [name, script] of Object.entries(scripts)) {
      const value = child(script, env);
      // The first round reads the files from disk.
      if (round > 0) taken[name]?.push(value);
    }
  }
  const of = (/** @type {string} */ name) => median(taken[name] ?? []);
  return [
    {
      title: 'Footprint',
      values: {
        'add-on file, MB': bytes / 1e6,
        '`require` of the package, ms': of('package'),
        'of it the add-on, ms': of('addon'),
        'RSS of a bare Node, idle, MB': of('bare'),
        'RSS over it: package loaded, MB': of('required') - of('bare'),
        'RSS over it: engine connected, one call made, MB': of('connected') - of('bare'),
      },
      note: `Medians of ${children} child processes. 1 MB = 1,000,000 bytes.`,
    },
  ];
}
