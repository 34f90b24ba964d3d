/**
 * Real servers for tests, benchmarks and the demo: each on a free loopback port, in a folder of its own, ended with
 * the process that started it. No mocks, and nothing of the product is imported here.
 */
export { startCluster } from './cluster.mjs';
export { startPgbouncer } from './pgbouncer.mjs';
export { startPostgres } from './postgres.mjs';
export { startProxy } from './proxy.mjs';
export { ReplyError } from './resp.mjs';
export { serverlessCommands } from './serverless.mjs';
export { keySlot } from './slots.mjs';
export { startValkey } from './valkey.mjs';
