/**
 * The package installs: what is published, and what `npm pack` makes of a clone, into an empty folder, without a
 * registry, and it is loaded, called and compiled against there. Not what the functions do.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = join(__dirname, '..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
/** Such as `linux-x64-gnu`. */
const platform = readdirSync(root)
  .map((name) => /^bcos-cache\.(.+)\.node$/.exec(name)?.[1])
  .find((name) => name !== undefined);

let folder: string;
let env: NodeJS.ProcessEnv;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bcos-package-'));
  const own = Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_|VITEST|REDIS|CACHE)/i.test(name));
  // Nothing of this machine's cache, and nobody to ask.
  const alone = { npm_config_cache: join(folder, 'cache'), npm_config_registry: 'http://127.0.0.1:9/' };
  env = {
    ...Object.fromEntries(own),
    ...alone,
    npm_config_offline: 'true',
    npm_config_update_notifier: 'false',
  };
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const npm = (cwd: string, ...given: string[]) => run('npm', given, { cwd, env });

/** What is in a tarball, without the folder around all of it. */
async function listed(tarball: string): Promise<string[]> {
  const { stdout } = await run('tar', ['-tzf', tarball]);
  return stdout
    .trim()
    .split('\n')
    .map((name) => name.replace(/^package\//, ''));
}

async function manifestOf(tarball: string): Promise<Record<string, unknown>> {
  const { stdout } = await run('tar', ['-xzOf', tarball, 'package/package.json']);
  return JSON.parse(stdout) as Record<string, unknown>;
}

/** An application with these packages and nothing else. */
async function installed(name: string, tarballs: readonly string[]): Promise<string> {
  const app = join(folder, name);
  mkdirSync(join(app, 'src', 'deep'), { recursive: true });
  writeFileSync(join(app, 'package.json'), '{ "name": "app", "private": true }\n');
  await npm(app, 'install', '--no-audit', '--no-fund', ...tarballs);
  return app;
}

const CALLS = `
  const engine = createEngine({ cacheStore: 'embedded' });
  const [first, second] = [engine.redisCacheService, engine.redisCacheService];
  const computed = await first.getOrSet('k', () => ({ n: 41 }), 60);
  const set = await second.set('l', computed.n + 1, 60);
  const answer = { set, got: await second.get('l'), kept: await first.getOrSet('k', () => null, 60), thrown: [] };
  try { createEngine({ redisPort: 0 }); } catch (error) { answer.thrown.push(error.code, error instanceof ConfigError); }
  await engine.close();
`;
const ANSWER = { set: true, got: 42, kept: { n: 41 }, thrown: ['E_CONFIG', true] };

/** Loads it in both ways, from a folder below the application and with another one as the current. */
async function uses(app: string): Promise<void> {
  const commonJs = join(app, 'src', 'deep', 'one.cjs');
  writeFileSync(
    commonJs,
    `(async () => { const { createEngine, ConfigError } = require('bcos-cache'); ${CALLS}
    const addOns = Object.keys(require.cache).filter((name) => name.endsWith('.node'));
    console.log(JSON.stringify({ answer, addOns })); })();`,
  );
  const esm = join(app, 'src', 'two.mjs');
  writeFileSync(
    esm,
    `import { createEngine, ConfigError } from 'bcos-cache'; ${CALLS} console.log(JSON.stringify({ answer }));`,
  );
  const [required, imported] = await Promise.all(
    [commonJs, esm].map((file) => run(process.execPath, [file], { cwd: tmpdir(), env })),
  );
  const { answer, addOns } = JSON.parse(required?.stdout ?? '') as { answer: unknown; addOns: string[] };
  expect(answer).toEqual(ANSWER);
  expect(JSON.parse(imported?.stdout ?? '')).toEqual({ answer: ANSWER });
  // Its own add-on, and one of them.
  expect(addOns.map((name) => basename(name))).toEqual([`bcos-cache.${platform}.node`]);
  expect(addOns[0]).toContain(join(basename(app), 'node_modules'));
}

describe('what is published', () => {
  let app: string;
  let main: string;
  let native: string;
  beforeAll(async () => {
    const out = join(folder, 'published');
    await run(process.execPath, [join(root, 'scripts/pack.mjs'), '--built', '--out', out], {
      cwd: folder,
      env,
    });
    const made = readdirSync(out).sort();
    expect(made).toEqual(
      [`bcos-cache-${version}.tgz`, `bcos-cache-native-${platform}-${version}.tgz`].sort(),
    );
    main = join(out, `bcos-cache-${version}.tgz`);
    native = join(out, `bcos-cache-native-${platform}-${version}.tgz`);
    app = await installed('published-app', [main, native]);
  }, 120_000);

  it('holds what is needed, no binary beside it, nothing of the workshop', async () => {
    const names = await listed(main);
    for (const name of [
      'package.json',
      'index.js',
      'index.d.ts',
      'native.js',
      'dist/index.js',
      'LICENSE',
      'README.md',
    ])
      expect(names).toContain(name);
    expect(
      names.filter((name) => /\.node$|__test__|^(src|crates|target|bench|demo|lib)\//.test(name)),
    ).toEqual([]);
    expect((await listed(native)).sort()).toEqual(
      ['LICENSE', 'README.md', `bcos-cache.${platform}.node`, 'package.json'].sort(),
    );
  });

  it('names the package of every platform, of its own version; the repository names none', async () => {
    const { optionalDependencies, scripts, devDependencies } = await manifestOf(main);
    const packages = readdirSync(join(root, 'npm')).map((name) => [`@bcos-cache/native-${name}`, version]);
    expect(optionalDependencies).toEqual(Object.fromEntries(packages));
    expect([scripts, devDependencies]).toEqual([undefined, undefined]);
    expect(await manifestOf(native)).toMatchObject({ name: `@bcos-cache/native-${platform}`, version });
    const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>;
    expect(own).not.toHaveProperty('optionalDependencies');
  });

  it('is loaded by require and by import, and answers', () => uses(app), 60_000);

  it('has its command line', async () => {
    const { stdout } = await run('npx', ['--no-install', 'bcos-cache', 'migrate', '--print'], {
      cwd: app,
      env,
    });
    const own = await run(process.execPath, [join(root, 'bin/bcos-cache.mjs'), 'migrate', '--print'], {
      env,
    });
    expect(stdout).toContain('CREATE SCHEMA');
    expect(stdout).toBe(own.stdout);
  }, 60_000);

  it('has its types', async () => {
    writeFileSync(
      join(app, 'src', 'typed.mts'),
      `import { createEngine, type Engine, type EngineHealth } from 'bcos-cache';
       const engine: Engine = createEngine({ cacheStore: 'embedded' });
       export const health: Promise<EngineHealth> = engine.getHealth();
       // @ts-expect-error: a number is expected
       createEngine({ redisPort: '6379' });\n`,
    );
    const given = [
      '--noEmit',
      '--skipLibCheck',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2022',
      '--lib',
      'es2023,esnext.disposable',
    ];
    const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules', '@types')];
    const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    await run(process.execPath, [compiler, ...given, ...types, 'src/typed.mts'], { cwd: app, env });
  }, 60_000);

  it('without the package of this platform says what is missing', async () => {
    const bare = await installed('bare-app', [main]);
    const load = run(process.execPath, ['-e', "require('bcos-cache').createEngine()"], { cwd: bare, env });
    await expect(load).rejects.toThrow(`@bcos-cache/native-${platform}`);
  }, 60_000);
});

it('what npm pack makes of a clone is whole by itself, for this platform', async () => {
  const out = join(folder, 'cloned');
  mkdirSync(out);
  await npm(root, 'pack', '--ignore-scripts', '--pack-destination', out);
  const tarball = join(out, `bcos-cache-${version}.tgz`);
  expect(await listed(tarball)).toContain(`bcos-cache.${platform}.node`);
  await uses(await installed('cloned-app', [tarball]));
}, 120_000);
