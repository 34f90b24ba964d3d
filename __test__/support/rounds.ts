/** How often a test repeats itself. Invariant: `QUICK=1` shrinks counts, never what is checked. */
const quick = process.env['QUICK'] === '1';

export function rounds(full: number, fewer: number): number {
  return quick ? fewer : full;
}
