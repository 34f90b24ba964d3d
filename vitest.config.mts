import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['__test__/**/*.spec.ts'],
    // Real servers and processes, which wait more than they compute: a quick run takes one file more than there are
    // cores.
    pool: 'forks',
    maxWorkers: process.env['QUICK'] === '1' ? 3 : 2,
    fileParallelism: process.env['CI'] === undefined,
    testTimeout: 120_000,
    hookTimeout: 240_000,
    teardownTimeout: 30_000,
  },
});
