/**
 * A map for entries that stay for a short time.
 *
 * When a `Map` of V8 grows or shrinks, its former table refers to the new one. Once a former table is in the old
 * generation, each later collection of young objects keeps all later tables with their entries, until the next full
 * collection. With 64 workers, this took a quarter of the CPU time of a process. A copy of the map has no
 * former table, so the map is copied from time to time.
 */

/** The number of removals after which a map is copied, beside its size. */
const COPY_AFTER = 1_000;

export class ChurnMap<Key, Value> {
  #map = new Map<Key, Value>();
  #removals = 0;

  get size(): number {
    return this.#map.size;
  }

  has(key: Key): boolean {
    return this.#map.has(key);
  }

  get(key: Key): Value | undefined {
    return this.#map.get(key);
  }

  set(key: Key, value: Value): void {
    this.#map.set(key, value);
  }

  /** Returns whether the key was present. */
  delete(key: Key): boolean {
    if (!this.#map.delete(key)) return false;
    if (++this.#removals >= COPY_AFTER + this.#map.size) {
      this.#removals = 0;
      this.#map = new Map(this.#map);
    }
    return true;
  }

  clear(): void {
    this.#map = new Map();
  }

  /** The values in the order in which their keys were added. Do not remove a key while you iterate. */
  values(): IterableIterator<Value> {
    return this.#map.values();
  }
}
