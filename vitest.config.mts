import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['__test__/**/*.spec.ts'],
    // Real servers and processes: two files at a time are enough for two cores.
    pool: 'forks',
    maxWorkers: 2,
    fileParallelism: process.env['CI'] === undefined,
    testTimeout: 120_000,
    hookTimeout: 240_000,
    teardownTimeout: 30_000,
  },
});
