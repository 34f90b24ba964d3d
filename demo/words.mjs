/**
 * Words that made-up people, places and permissions are named with.
 * Invariant: nothing is reordered or removed: the plan picks by place, and equal seeds must give equal data.
 */

export const FIRST_NAMES = [
  'Ana',
  'Bogdan',
  'Chloé',
  'Dmitri',
  'Elif',
  'Farid',
  'Grace',
  'Hana',
  'Ivo',
  'Júlia',
  'Kofi',
  'Linh',
];

export const LAST_NAMES = [
  "O'Neill",
  'Garcia-Lopez',
  'Schmidt',
  'Tanaka',
  'Okafor',
  'Novák',
  'Brown',
  'Haddad',
  'Silva',
  'Larsen',
];

export const TOWNS = [
  'Ashford',
  'Bayview',
  'Cedar Grove',
  'Dunmore',
  'Eastgate',
  'Fairmont',
  'Glenwood',
  'Harbor',
  'Inverness',
  'Juniper',
];

export const REGIONS = ['North', 'South', 'East', 'West'];

export const RESOURCES = [
  'analytics',
  'users',
  'roles',
  'organizations',
  'practices',
  'providers',
  'dashboards',
  'charts',
  'settings',
  'audit',
  'tokens',
  'templates',
  'reports',
];
