/**
 * The tools that a person has to have before the project can help itself: looked for and, where one is missing or too
 * old, named together with the way to get it. Installs nothing.
 * Invariant: the versions that are asked for are those that package.json and Cargo.toml state.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { root } from './run.mjs';

/** @param {string} file @param {RegExp} pattern first group: a version */
const stated = (file, pattern) => pattern.exec(readFileSync(new URL(file, root), 'utf8'))?.[1] ?? '0';

/** @param {string} version @param {string} least */
function isOlder(version, least) {
  const [have, need] = [version, least].map((text) => text.split('.').map(Number));
  const at = need.findIndex((part, index) => part !== (have[index] ?? 0));
  return at >= 0 && (have[at] ?? 0) < need[at];
}

/** @param {string} command @param {string[]} given @returns {string | undefined} what it says, if it is there */
function ask(command, given) {
  const { status, stdout } = spawnSync(command, given, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return status === 0 ? stdout : undefined;
}

/**
 * What is missing, in one sentence; `undefined` when nothing is.
 * @param {{ checks: boolean }} needs `checks`: also what the checks of the code need
 */
export function missingTool({ checks }) {
  const node = stated('package.json', /"node": ">=([\d.]+)"/);
  if (isOlder(process.versions.node, node)) {
    return `Node ${process.versions.node} is too old: ${node} or newer is needed.`;
  }
  const rust = stated('Cargo.toml', /^rust-version = "([\d.]+)"/m);
  const compiler = ask('rustc', ['--version']);
  if (compiler === undefined || ask('cargo', ['--version']) === undefined) {
    return `No Rust toolchain was found: install one from your distribution or with rustup, ${rust} or newer.`;
  }
  const version = /^rustc ([\d.]+)/.exec(compiler)?.[1] ?? '0';
  if (isOlder(version, rust)) {
    return `Rust ${version} is too old: ${rust} or newer is needed (rustup update stable, or a newer one of your distribution).`;
  }
  for (const [name, command] of checks
    ? [
        ['rustfmt', 'fmt'],
        ['clippy', 'clippy'],
      ]
    : []) {
    if (ask('cargo', [command, '--version']) === undefined) {
      return `The Rust toolchain has no ${name}, which npm test needs: rustup component add ${name}, or its package of your distribution.`;
    }
  }
  return undefined;
}
