import { configDefaults, defineConfig } from 'vitest/config';

const quick = process.env['QUICK'] === '1';

/** Schedules of several processes, and waits for what takes its time by design: a quick run leaves them to the full one. */
const LONG = [
  'analytics-generations',
  'analytics-processes',
  'rbac-lies',
  'rbac-new-enemy',
  'resurrection',
  'warming-processes',
].map((name) => `__test__/${name}.spec.ts`);

export default defineConfig({
  test: {
    include: ['__test__/**/*.spec.ts'],
    exclude: [...configDefaults.exclude, ...(quick ? LONG : [])],
    // Real servers and processes, which wait more than they compute: a quick run takes three files for every core.
    pool: 'forks',
    maxWorkers: quick ? 6 : 2,
    fileParallelism: process.env['CI'] === undefined,
    testTimeout: 120_000,
    hookTimeout: 240_000,
    teardownTimeout: 30_000,
  },
});
