/** How current a context must be, as numbers that cross. What they promise is said in `index.d.ts`. */

export const VALIDATED = 0;
export const BOUNDED = 1;
export const FRESH = 2;

export type Consistency = typeof VALIDATED | typeof BOUNDED | typeof FRESH;

/** The words of the public surface, by number. */
export const WORDS = ['validated', 'bounded', 'fresh'] as const;
