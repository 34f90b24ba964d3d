/** A process that does nothing but follow the outbox, so that a test can kill it. */
import { createRequire } from 'node:module';

const { createEngine } = createRequire(import.meta.url)('../../index.js');
let engine;

process.on('message', async (message) => {
  if (message.kind === 'task') {
    engine = createEngine(message.options);
    await engine.getHealth();
    process.send?.({ kind: 'ready' });
  }
  if (message.kind === 'tail') process.send?.({ kind: 'tail', ...engine.getMetrics().tail });
});
process.on('disconnect', () => process.exit(0));
