/**
 * The functions about the dashboard, for the table of `functions.ts`. Its engines have none configured, so that each of
 * them has one right answer, whatever is broken: that the option is missing. What they say of a dashboard is in specs of
 * its own. Invariant: as there, no call changes what is true.
 */
import type { CallOptions, Engine } from '../../index.js';
import type { Row } from './functions.js';

const names = [
  'getDashboardMetrics',
  'refreshDashboardMetrics',
  'warmUpDashboardCache',
  'getCacheHealth',
  'invalidateDashboardCache',
] as const;

export const dashboardFunctions: readonly Row[] = names.map((name) => ({
  name,
  of: 'an engine without a dashboard',
  asks: 'cache',
  call: async (engine: Engine) => {
    const call = engine[name] as (options?: CallOptions) => Promise<unknown>;
    return call.call(engine).catch((error: { code?: unknown }) => error.code);
  },
  right: (code) => code === 'E_CONFIG',
}));
