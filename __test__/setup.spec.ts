/** What a person without the right tools is told, before anything is installed or built. Not the set-up itself. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';

const root = join(__dirname, '..');
let folder: string;
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the set-up where only these programs are found; each prints its text, or fails. */
function setUp(programs: Readonly<Record<string, string>>, ...given: string[]) {
  folder = mkdtempSync(join(tmpdir(), 'bcos-tools-'));
  for (const [name, script] of Object.entries(programs)) {
    const file = join(folder, name);
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    chmodSync(file, 0o755);
  }
  return new Promise<{ code: unknown; text: string }>((resolve) => {
    const file = join(root, 'scripts', 'setup.mjs');
    execFile(process.execPath, [file, ...given], { env: { PATH: folder } }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, text: stdout + stderr });
    });
  });
}

const CARGO = 'case "$1" in fmt|clippy) exit 1;; esac; echo "cargo 1.94.0"';

it.each([
  ['no Rust', {}, /^No Rust toolchain was found: .*1\.94 or newer\.\n$/],
  ['a compiler without cargo', { rustc: 'echo "rustc 1.95.0"' }, /^No Rust toolchain was found/],
  [
    'an old one',
    { rustc: 'echo "rustc 1.9.0 (abc 2016-05-18)"', cargo: CARGO },
    /^Rust 1\.9\.0 is too old: 1\.94 or newer is needed .*rustup update/,
  ],
  [
    'one without rustfmt',
    { rustc: 'echo "rustc 1.94.0"', cargo: CARGO },
    /^The Rust toolchain has no rustfmt, .*rustup component add rustfmt/,
  ],
  [
    'one without clippy',
    { rustc: 'echo "rustc 2.0.1-nightly"', cargo: CARGO.replace('fmt|', '') },
    /^The Rust toolchain has no clippy, .*rustup component add clippy/,
  ],
])('%s is said in one sentence, and nothing is done', async (_, programs, said) => {
  const { code, text } = await setUp(programs, '--checks');
  expect(code).toBe(1);
  expect(text).toMatch(said);
  expect(text.trim().split('\n')).toHaveLength(1);
});
