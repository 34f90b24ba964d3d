/**
 * Work that several callers want at once, such as a refresh: one run serves all who called before it began. Not a
 * cache of results.
 * Invariant: whoever calls while a run is under way waits for the next one, since what the caller has just written
 * may have come too late for this one.
 */

export class Turns<T> {
  readonly #run: () => Promise<T>;
  #running: Promise<unknown> = Promise.resolve();
  #next: Promise<T> | undefined;

  constructor(run: () => Promise<T>) {
    this.#run = run;
  }

  join(): Promise<T> {
    this.#next ??= this.#follow(this.#running);
    return this.#next;
  }

  async #follow(before: Promise<unknown>): Promise<T> {
    // At least a microtask: those who call in one turn of the event loop share a run.
    await before.catch(() => undefined);
    // First, in case that it throws at once.
    this.#next = undefined;
    const run = this.#run();
    this.#running = run;
    return run;
  }
}
