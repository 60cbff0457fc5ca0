/** The order in which idle keys may be evicted. Pure: no clock, and no knowledge of throttles. */

/** An item of an {@link IndexedHeap}. An item is in one heap at most. */
export interface HeapItem {
  /** The sort key, in seconds. After a change, call {@link IndexedHeap.put}. */
  readonly evictableAt: number;
  /** The index of the item in the heap; -1 while the item is outside. Only the heap writes it. */
  heapIndex: number;
}

/**
 * A binary min-heap ordered by `evictableAt` (Williams, 1964). Each item stores its own index, so that `put` and
 * `remove` take O(log n) for any item.
 */
export class IndexedHeap<T extends HeapItem> {
  readonly #items: T[] = [];

  /** The item with the least `evictableAt`. */
  get first(): T | undefined {
    return this.#items[0];
  }

  /** Inserts an item, or moves an item of this heap after its `evictableAt` has changed. */
  put(item: T): void {
    this.#sift(item, item.heapIndex < 0 ? this.#items.length : item.heapIndex);
  }

  /** Removes an item. Does nothing for an item outside the heap. */
  remove(item: T): void {
    const { heapIndex: hole } = item;
    if (hole < 0) return;
    item.heapIndex = -1;
    const last = this.#items.pop();
    if (last !== undefined && last !== item) this.#sift(last, hole);
  }

  /** Moves the hole at `index` up or down until `item` may fill it. */
  #sift(item: T, index: number): void {
    const items = this.#items;
    for (
      let parent;
      index > 0 && item.evictableAt < (items[(parent = (index - 1) >> 1)] as T).evictableAt;
      index = parent
    )
      this.#set(index, items[parent] as T);
    for (let child; (child = 2 * index + 1) < items.length; index = child) {
      if (child + 1 < items.length && (items[child + 1] as T).evictableAt < (items[child] as T).evictableAt) child++;
      if (item.evictableAt <= (items[child] as T).evictableAt) break;
      this.#set(index, items[child] as T);
    }
    this.#set(index, item);
  }

  #set(index: number, item: T): void {
    this.#items[index] = item;
    item.heapIndex = index;
  }
}
