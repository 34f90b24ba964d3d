/** The command line: what it prints where, and its exit codes. Not what the SQL does. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = join(__dirname, '..');

describe('npx bcos-cache', () => {
  const env: NodeJS.ProcessEnv = { PATH: process.env['PATH'] };
  const command = (args: string[], more: NodeJS.ProcessEnv = {}) =>
    new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      const file = join(root, 'bin/bcos-cache.mjs');
      execFile(process.execPath, [file, ...args], { env: { ...env, ...more } }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : error.code, stdout, stderr });
      });
    });

  it.each([
    [[], /command is missing/],
    [['migrat', '--print'], /unknown command "migrat"/],
    [['migrate'], /--print or --apply/],
    [['migrate', '--print', '--apply'], /--print or --apply/],
    [['migrate', '--print', 'now'], /unexpected argument "now"/],
    [['migrate', '--prnt'], /--prnt/],
    [['migrate', '--options'], /--options/],
  ])('%j is asked for wrongly', async (args, why) => {
    const { code, stdout, stderr } = await command(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(why);
    expect(stderr).toContain('--help');
  });

  it.each([
    [['migrate', '--apply'], {}, /DATABASE_URL/],
    [['migrate', '--print'], { REDIS_PORT: 'abc' }, /REDIS_PORT/],
    [['migrate', '--print', '--options', '/no/such.json'], {}, /no\/such\.json/],
    [['migrate', '--print', '--options', __filename], {}, /command-line/],
  ])('%j fails in one sentence', async (args, more, why) => {
    const { code, stdout, stderr } = await command(args, more);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(why);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('prints help and SQL to stdout alone', async () => {
    const [help, install, remove] = await Promise.all([
      command(['--help']),
      command(['migrate', '--print']),
      command(['migrate', '--print', '--remove']),
    ]);
    for (const { code, stderr } of [help, install, remove])
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(/^usage: npx bcos-cache migrate/);
    expect(install.stdout).toMatch(/CREATE OR REPLACE TRIGGER/);
    expect(remove.stdout).toMatch(/DROP/);
    expect(remove.stdout).not.toBe(install.stdout);
  });
});
