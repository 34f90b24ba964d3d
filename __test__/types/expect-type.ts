/**
 * Compile-time assertions for the type tests; nothing here runs.
 * Invariant: `Same` is exact, so `any`, a lost `null` or a lost `readonly` is a failure and not a match.
 */

export type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles only when the type of `value` is exactly `Expected`: `expectType<string>()(value)`. */
export declare function expectType<Expected>(): <Actual>(
  value: Actual,
  ...mismatch: Same<Actual, Expected> extends true ? [] : [expected: Expected, actual: Actual]
) => void;

/** Compiles only for `true`: `check<Same<A, B>>()`. */
export declare function check<_Outcome extends true>(): void;
