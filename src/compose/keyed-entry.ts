/** A live key of a `KeyedThrottle`, with its throttle. */
import { Throttle, type ThrottleOwner } from '../core/throttle.js';
import type { HeapItem } from './indexed-heap.js';

/** The record of one live key. */
export class KeyedEntry<K, Name extends string> implements ThrottleOwner, HeapItem {
  readonly key: K;
  readonly throttle: Throttle<Name>;
  /** The instant from which the throttle equals a new one. Valid only while it has no permit out and no waiter. */
  evictableAt: number = -Infinity;
  heapIndex: number = -1;
  readonly #owner: EntryOwner<K, Name>;

  constructor(key: K, owner: EntryOwner<K, Name>, template: Throttle<Name>) {
    this.key = key;
    this.#owner = owner;
    this.throttle = new Throttle<Name>(template, this);
  }

  onIdle(evictableAt: number): void {
    this.evictableAt = evictableAt;
    this.#owner.onEntryIdle(this);
  }

  onResize(change: 1 | -1): void {
    this.#owner.onResize(change);
  }

  /** A permit of an evicted throttle may settle late. The current throttle of the key takes that debt. */
  currentThrottle(): Throttle<string> {
    return this.#owner.currentEntry(this).throttle;
  }
}

/** The private methods of a `KeyedThrottle` that its entries call. */
export interface EntryOwner<K, Name extends string> {
  onEntryIdle(entry: KeyedEntry<K, Name>): void;
  onResize(change: 1 | -1): void;
  /** The live entry for the key of `entry`. If there is none, `entry` becomes live again. */
  currentEntry(entry: KeyedEntry<K, Name>): KeyedEntry<K, Name>;
}
