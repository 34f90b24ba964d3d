/**
 * Which data sources are asked for most, by this copy of the package, since it was loaded. Not shared between
 * processes and not stored: after a start nobody has asked for anything.
 * Invariant: at most `KEPT` ids are kept. One that is asked for more often than every `KEPT`th time is among them.
 */

/** Far more data sources than an application has. */
const KEPT = 256;
/** So many calls later, one counts half. */
const HALVED_AFTER = 65_536;

export class MostUsed {
  readonly #counts = new Map<string, number>();
  #calls = 0;

  /** One call more. A new id takes the place, and the count, of the one with the fewest when all are taken. */
  count(id: string): void {
    this.#calls += 1;
    if (this.#calls >= HALVED_AFTER) this.#halve();
    let before = this.#counts.get(id);
    if (before === undefined && this.#counts.size >= KEPT) before = this.#makeRoom();
    this.#counts.set(id, (before ?? 0) + 1);
  }

  /** The most used first; of equals the one that was asked for first. */
  list(): readonly string[] {
    return [...this.#counts].sort(([, a], [, b]) => b - a).map(([id]) => id);
  }

  #makeRoom(): number {
    let [fewestId, fewest] = ['', Number.POSITIVE_INFINITY];
    for (const [id, count] of this.#counts) {
      if (count < fewest) [fewestId, fewest] = [id, count];
    }
    this.#counts.delete(fewestId);
    return fewest;
  }

  #halve(): void {
    this.#calls = 0;
    for (const [id, count] of this.#counts) this.#counts.set(id, count / 2);
  }
}
