/**
 * The package loaded again and again, as `next dev` does, and as a second bundle does that carries copies of its
 * JavaScript. Prints how many engines and connections there are. Invariant: what was loaded first is still used.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Connections, ENTRY, load, require, tell } from './script-tools.mjs';

const RELOADS = 20;
const ROOT = dirname(ENTRY);

/** index.js, dist/*, native.js and the add-on itself. */
function forget() {
  const ours = Object.keys(require.cache).filter(
    (path) => path.startsWith(ROOT) && !path.includes('node_modules') && !path.includes('__test__'),
  );
  for (const path of ours) delete require.cache[path];
  return ours;
}

/** The JavaScript again, the add-on left where it is, as bundlers do with what they cannot read. @param {string} folder */
function bundle(folder) {
  mkdirSync(folder);
  for (const part of ['index.js', 'native.js', 'dist']) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  }
  for (const addon of readdirSync(ROOT).filter((name) => name.endsWith('.node'))) {
    symlinkSync(join(ROOT, addon), join(folder, addon));
  }
  return require(join(folder, 'index.js'));
}

const connections = new Connections();
await connections.count();
const first = load();
const oldEngine = first.getEngine();
await first.isTokenBlacklisted('first');
const one = await connections.count();
/** @type {(typeof first)[]} */
const copies = [first];
let forgotten = 0;
for (let turn = 0; turn < RELOADS; turn += 1) {
  const paths = forget();
  forgotten = paths.filter((path) => /(index\.js|native\.js|\.node)$/.test(path)).length;
  const copy = load();
  await copy.isTokenBlacklisted(`reload ${turn}`);
  copies.push(copy);
}
const folder = mkdtempSync(join(tmpdir(), 'bcos-bundle-'));
for (let turn = 0; turn < 3; turn += 1) {
  const copy = bundle(join(folder, String(turn)));
  await copy.isTokenBlacklisted(`bundle ${turn}`);
  copies.push(copy);
}
// Every copy still answers, and all count into the same engine.
for (const [index, copy] of copies.entries()) await copy.isTokenBlacklisted(`again ${index}`);
await oldEngine.isTokenBlacklisted('old reference');
const submitted = copies.map((copy) => copy.getMetrics().bridge.submitted);
const calls = 1 + RELOADS + 3 + copies.length + 1;
const many = await connections.count();
const last = /** @type {typeof first} */ (copies.at(-1));
const error = await last.getUserById('not an id').catch((/** @type {unknown} */ reason) => reason);
const recognised = copies.every(({ InvalidArgumentError }) => error instanceof InvalidArgumentError);
await last.close();
const closed = await Promise.all(
  copies.map((copy) =>
    copy.isTokenBlacklisted('closed').catch((/** @type {{ code: string }} */ { code }) => code),
  ),
);
const left = await connections.settle(0, 0);
await connections.end();
rmSync(folder, { recursive: true, force: true });
tell({
  forgotten,
  differentCopies: new Set(copies).size,
  engines: new Set(submitted).size,
  uncounted: calls - (submitted[0] ?? 0),
  moreConnections: { store: many.store - one.store, source: many.source - one.source },
  recognised,
  closed: [...new Set(closed)],
  left,
});
