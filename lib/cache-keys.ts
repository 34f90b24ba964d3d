/** Keys and lifetimes of the application that S5 describes, under their names there. Data only. */

export const CACHE_KEYS = Object.freeze({
  FLEET_STATS: 'fleet:stats',
  PILOT_COUNT: 'fleet:pilots:count',
  CAPTAIN_COUNT: 'fleet:captains:count',
  FO_COUNT: 'fleet:first_officers:count',
  TRAINING_CAPTAINS: 'fleet:training_captains:count',
  EXAMINERS: 'fleet:examiners:count',
  COMPLIANCE_RATE: 'fleet:compliance:rate',
  CERT_STATS: 'fleet:certifications:stats',
  EXPIRING_CERTS: 'fleet:certifications:expiring',
  EXPIRED_CERTS: 'fleet:certifications:expired',
  RETIREMENT_FORECAST: 'fleet:retirement:forecast',
  NEARING_RETIREMENT: 'fleet:retirement:nearing',
  RETIREMENT_DUE_SOON: 'fleet:retirement:due_soon',
  CHECK_TYPES: 'ref:check_types',
  CONTRACT_TYPES: 'ref:contract_types',
  SETTINGS: 'ref:settings',
  DASHBOARD_METRICS: 'dashboard:metrics:v3',
  LEAVE_STATS: 'fleet:leave:stats',
  LEAVE_PENDING: 'fleet:leave:pending',
  LEAVE_APPROVED: 'fleet:leave:approved',
} as const);

/** Seconds. */
export const CACHE_TTL = Object.freeze({
  DASHBOARD: 60,
  FLEET_STATS: 300,
  REFERENCE_DATA: 7_200,
  LEAVE_STATS: 120,
  RETIREMENT_FORECAST: 600,
} as const);
