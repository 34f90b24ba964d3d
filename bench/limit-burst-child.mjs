/**
 * The second process of `limit-burst.mjs`: told when, it sends the same bursts and reports what was admitted.
 */

import { once } from 'node:events';
import { takePart } from './limit-burst.mjs';

const [part] = await once(process, 'message');
process.send?.(await takePart(part), () => process.exit());
