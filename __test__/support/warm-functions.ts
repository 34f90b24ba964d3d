/**
 * The functions about warming, for the table of `functions.ts`. A warm-up that cannot do anything says so and is no
 * failure. Invariant: as there, no call changes what is true.
 */
import type { WarmupStats } from '../../index.js';
import type { Row } from './functions.js';

const isStats = (value: unknown): boolean => {
  const { rolesWarmed, usersWarmed, dataSourcesWarmed, duration, errors } = value as WarmupStats;
  return [rolesWarmed, usersWarmed, dataSourcesWarmed, duration, errors].every(
    (figure) => Number.isInteger(figure) && figure >= 0,
  );
};

export const warmFunctions: readonly Row[] = [
  {
    name: 'warmCache',
    of: 'what is configured',
    asks: 'cache',
    call: (engine) => engine.warmCache(),
    right: isStats,
  },
];
