/**
 * The error classes of the public surface and the one place that turns what the native side reports into
 * them. Not a place for messages: the layer that failed writes those. Invariant: `code`, class and `name`
 * always agree, and every code has exactly one class.
 */

export type ErrorCode =
  | 'E_CONFIG'
  | 'E_INVALID_ARGUMENT'
  | 'E_SOURCE_UNAVAILABLE'
  | 'E_STORE_UNAVAILABLE'
  | 'E_DEADLINE'
  | 'E_OVERLOADED'
  | 'E_SCOPE'
  | 'E_NOT_FOUND'
  | 'E_CONFLICT'
  | 'E_RATE_LIMITED'
  | 'E_CLOSED'
  | 'E_INTERNAL';

export interface ErrorDetails {
  readonly field?: string | undefined;
  readonly reason?: string | undefined;
  readonly retryable?: boolean | undefined;
  readonly cause?: unknown;
}

/** Codes after which the same call, unchanged, may succeed later. */
const RETRYABLE: ReadonlySet<string> = new Set<ErrorCode>([
  'E_SOURCE_UNAVAILABLE',
  'E_STORE_UNAVAILABLE',
  'E_DEADLINE',
  'E_OVERLOADED',
  'E_RATE_LIMITED',
]);

/** Registered globally so that two copies of this module in one process recognise each other's errors. */
const BRAND: unique symbol = Symbol.for('bcos-cache.error');

export class BcosCacheError extends Error {
  readonly code: ErrorCode;
  declare readonly field?: string | undefined;
  declare readonly reason?: string | undefined;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.code = code;
    // Left out instead of set to undefined, so that a printed error shows only what is known.
    if (details.field !== undefined) this.field = details.field;
    if (details.reason !== undefined) this.reason = details.reason;
    this.retryable = details.retryable ?? RETRYABLE.has(code);
  }
}

/** A variable or option is missing, unreadable or contradicts another; `field` is its name. */
export class ConfigError extends BcosCacheError {
  declare readonly code: 'E_CONFIG';
  constructor(message: string, details?: ErrorDetails) {
    super('E_CONFIG', message, details);
  }
}

/** The caller passed something the function does not take; `field` is the argument. */
export class InvalidArgumentError extends BcosCacheError {
  declare readonly code: 'E_INVALID_ARGUMENT';
  constructor(message: string, details?: ErrorDetails) {
    super('E_INVALID_ARGUMENT', message, details);
  }
}

/** Only the source could answer, and it did not. */
export class SourceUnavailableError extends BcosCacheError {
  declare readonly code: 'E_SOURCE_UNAVAILABLE';
  constructor(message: string, details?: ErrorDetails) {
    super('E_SOURCE_UNAVAILABLE', message, details);
  }
}

/** Only the store could do it, and it did not. */
export class StoreUnavailableError extends BcosCacheError {
  declare readonly code: 'E_STORE_UNAVAILABLE';
  constructor(message: string, details?: ErrorDetails) {
    super('E_STORE_UNAVAILABLE', message, details);
  }
}

/** The time budget of the call ran out. */
export class DeadlineError extends BcosCacheError {
  declare readonly code: 'E_DEADLINE';
  constructor(message: string, details?: ErrorDetails) {
    super('E_DEADLINE', message, details);
  }
}

/** A bounded queue is full, so the call was refused before it started. */
export class OverloadedError extends BcosCacheError {
  declare readonly code: 'E_OVERLOADED';
  constructor(message: string, details?: ErrorDetails) {
    super('E_OVERLOADED', message, details);
  }
}

/** The caller's scope does not allow the request. */
export class ScopeError extends BcosCacheError {
  declare readonly code: 'E_SCOPE';
  constructor(message: string, details?: ErrorDetails) {
    super('E_SCOPE', message, details);
  }
}

/** The thing asked for does not exist, or no longer counts as existing; `reason` says which. */
export class NotFoundError extends BcosCacheError {
  declare readonly code: 'E_NOT_FOUND';
  constructor(message: string, details?: ErrorDetails) {
    super('E_NOT_FOUND', message, details);
  }
}

/** The call contradicts the present state. */
export class ConflictError extends BcosCacheError {
  declare readonly code: 'E_CONFLICT';
  constructor(message: string, details?: ErrorDetails) {
    super('E_CONFLICT', message, details);
  }
}

/** A rate limit refused the call. */
export class RateLimitedError extends BcosCacheError {
  declare readonly code: 'E_RATE_LIMITED';
  constructor(message: string, details?: ErrorDetails) {
    super('E_RATE_LIMITED', message, details);
  }
}

/** The engine is closed or closing. */
export class ClosedError extends BcosCacheError {
  declare readonly code: 'E_CLOSED';
  constructor(message: string, details?: ErrorDetails) {
    super('E_CLOSED', message, details);
  }
}

type NamedError = new (message: string, details?: ErrorDetails) => BcosCacheError;

/**
 * Code to name and class. Names are written out because a minifier renames classes, and a log must not change
 * with the bundle.
 */
const CLASSES: Readonly<Record<Exclude<ErrorCode, 'E_INTERNAL'>, readonly [string, NamedError]>> = {
  E_CONFIG: ['ConfigError', ConfigError],
  E_INVALID_ARGUMENT: ['InvalidArgumentError', InvalidArgumentError],
  E_SOURCE_UNAVAILABLE: ['SourceUnavailableError', SourceUnavailableError],
  E_STORE_UNAVAILABLE: ['StoreUnavailableError', StoreUnavailableError],
  E_DEADLINE: ['DeadlineError', DeadlineError],
  E_OVERLOADED: ['OverloadedError', OverloadedError],
  E_SCOPE: ['ScopeError', ScopeError],
  E_NOT_FOUND: ['NotFoundError', NotFoundError],
  E_CONFLICT: ['ConflictError', ConflictError],
  E_RATE_LIMITED: ['RateLimitedError', RateLimitedError],
  E_CLOSED: ['ClosedError', ClosedError],
};

/** The code each class of this module stands for; `null` for the base class, which stands for all of them. */
const CODES = new Map<unknown, string | null>([[BcosCacheError, null]]);
const TYPES = new Map<string, NamedError>();

// On the prototype and not enumerable: the stack's first line then carries the name, and printing stays clean.
Object.defineProperty(BcosCacheError.prototype, BRAND, { value: true });
Object.defineProperty(BcosCacheError, Symbol.hasInstance, { value: hasInstance });
setName(BcosCacheError, 'BcosCacheError');
for (const [code, [name, type]] of Object.entries(CLASSES)) {
  CODES.set(type, code);
  TYPES.set(code, type);
  setName(type, name);
}

/**
 * `instanceof` for the classes above. A bundler or a hot reload may load this module twice; the engine is
 * shared by both copies, so its errors must be recognised by both. A class derived by the application keeps
 * the language's own rule.
 */
function hasInstance(this: unknown, value: unknown): boolean {
  const code = CODES.get(this);
  if (code === undefined) return Function.prototype[Symbol.hasInstance].call(this, value);
  if (typeof value !== 'object' || value === null || !(BRAND in value)) return false;
  return code === null || ('code' in value && value.code === code);
}

function setName(type: { readonly prototype: BcosCacheError }, value: string): void {
  Object.defineProperty(type.prototype, 'name', { value, configurable: true, writable: true });
}

/**
 * The error for a failure reported by the native side. A code this build does not know, which only a
 * mismatched add-on can send, becomes `E_INTERNAL` and is named in the message, never dropped.
 */
export function fromNative(
  code: string,
  message: string,
  field?: string | null | undefined,
  reason?: string | null | undefined,
): BcosCacheError {
  return errorOf(code, message, { field: field ?? undefined, reason: reason ?? undefined });
}

/** The error of a code, of its class. */
export function errorOf(code: string, message: string, details: ErrorDetails): BcosCacheError {
  const type = TYPES.get(code);
  if (type !== undefined) return new type(message, details);
  return new BcosCacheError('E_INTERNAL', code === 'E_INTERNAL' ? message : `${code}: ${message}`, details);
}
