import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['__test__/**/*.spec.ts'],
    // Real servers and processes, which wait more than they compute: a quick run takes two files for every core.
    pool: 'forks',
    maxWorkers: process.env['QUICK'] === '1' ? 4 : 2,
    fileParallelism: process.env['CI'] === undefined,
    testTimeout: 120_000,
    hookTimeout: 240_000,
    teardownTimeout: 30_000,
  },
});
