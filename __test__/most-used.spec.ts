/**
 * Which data sources are asked for most: pure, by the thousand, against counting everything. Not what is done with it.
 */
import { describe, expect, it } from 'vitest';
import { load } from './support/played-native.js';

interface MostUsed {
  count(id: string): void;
  list(): readonly string[];
}
const { MostUsed } = load('./dist/warming/most-used.js') as { MostUsed: new () => MostUsed };

const KEPT = 256;

/** Numbers between 0 and 1 that are the same in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('the most used', () => {
  it('is what counting everything says, while there is room', () => {
    for (let seed = 1; seed <= 1_000; seed += 1) {
      const random = seeded(seed);
      const [used, naive] = [new MostUsed(), new Map<string, number>()];
      const ids = 1 + Math.floor(random() * KEPT);
      for (let call = 0; call < 300; call += 1) {
        const id = String(Math.floor(random() ** 2 * ids));
        used.count(id);
        naive.set(id, (naive.get(id) ?? 0) + 1);
      }
      const expected = [...naive].sort(([, a], [, b]) => b - a).map(([id]) => id);
      expect(used.list()).toEqual(expected);
    }
  });

  it('keeps whoever is asked for often, however many others there are', () => {
    for (let seed = 1; seed <= 50; seed += 1) {
      const random = seeded(seed);
      const used = new MostUsed();
      const calls = 20_000;
      for (let call = 0; call < calls; call += 1) {
        // Ten that are asked for every hundredth time, among ids that come once.
        const often = random() < 0.1;
        used.count(often ? `often ${call % 10}` : `once ${call}`);
      }
      const list = used.list();
      expect(list).toHaveLength(KEPT);
      for (let at = 0; at < 10; at += 1) expect(list).toContain(`often ${at}`);
    }
  });

  it('follows a change of habits', () => {
    const used = new MostUsed();
    for (let call = 0; call < 300_000; call += 1) used.count('before');
    for (let call = 0; call < 300_000; call += 1) used.count('now');
    expect(used.list()[0]).toBe('now');
  });

  it('is empty after a start', () => {
    expect(new MostUsed().list()).toEqual([]);
  });
});
