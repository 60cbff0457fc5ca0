/** The heap that orders idle keys by the instant at which they may be evicted. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type HeapItem, IndexedHeap } from '../../src/compose/indexed-heap.js';

interface Item extends HeapItem {
  evictableAt: number;
  readonly name: number;
}

const createItem = (evictableAt: number, name = 0): Item => ({ evictableAt, heapIndex: -1, name });

/** Removes all items, the first one each time. */
const drain = (heap: IndexedHeap<Item>): Item[] => {
  const removed: Item[] = [];
  for (let item = heap.first; item !== undefined; item = heap.first) {
    heap.remove(item);
    removed.push(item);
  }
  return removed;
};

describe('IndexedHeap', () => {
  test('an empty heap has no first item', () => {
    expect(new IndexedHeap<Item>().first).toBeUndefined();
  });

  test('items leave in the order of evictableAt, infinities included', () => {
    const heap = new IndexedHeap<Item>();
    for (const evictableAt of [3, Infinity, 1, -Infinity, 2, 1]) heap.put(createItem(evictableAt));
    expect(drain(heap).map(({ evictableAt }) => evictableAt)).toEqual([-Infinity, 1, 1, 2, 3, Infinity]);
  });

  test('a removed item has no index, and a second removal changes nothing', () => {
    const heap = new IndexedHeap<Item>();
    const [first, second] = [createItem(1), createItem(2)];
    heap.put(first);
    heap.put(second);
    heap.remove(first);
    heap.remove(first);
    expect([first.heapIndex, second.heapIndex, heap.first]).toEqual([-1, 0, second]);
    heap.remove(second);
    expect([second.heapIndex, heap.first]).toEqual([-1, undefined]);
  });

  test('a removed item can be inserted again', () => {
    const heap = new IndexedHeap<Item>();
    const [first, second] = [createItem(1), createItem(2)];
    heap.put(first);
    heap.put(second);
    heap.remove(first);
    first.evictableAt = 3;
    heap.put(first);
    expect(drain(heap)).toEqual([second, first]);
  });

  test('put moves an item whose evictableAt has changed, in both directions', () => {
    const heap = new IndexedHeap<Item>();
    const items = [1, 2, 3, 4, 5].map((evictableAt) => createItem(evictableAt, evictableAt));
    for (const item of items) heap.put(item);
    const [one, , , four] = items as [Item, Item, Item, Item];
    one.evictableAt = 4.5;
    heap.put(one);
    four.evictableAt = 0;
    heap.put(four);
    expect(drain(heap).map(({ name }) => name)).toEqual([4, 2, 3, 1, 5]);
  });

  test('any mix of insertions, moves and removals agrees with a sorted list', () => {
    const change = fc.record({ name: fc.nat(20), evictableAt: fc.option(fc.integer({ min: 0, max: 9 })) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 200, size: 'max' }), (changes) => {
        const heap = new IndexedHeap<Item>();
        const items = Array.from({ length: 21 }, (_, name) => createItem(0, name));
        const present = new Set<Item>();
        for (const { name, evictableAt } of changes) {
          const item = items[name] as Item;
          if (evictableAt === null) {
            heap.remove(item);
            present.delete(item);
          } else {
            item.evictableAt = evictableAt;
            heap.put(item);
            present.add(item);
          }
          const least = Math.min(...[...present].map((other) => other.evictableAt));
          expect(heap.first?.evictableAt ?? Infinity).toBe(least);
          expect(items.every((other) => other.heapIndex >= 0 === present.has(other))).toBe(true);
        }
        const sorted = [...present].map(({ evictableAt }) => evictableAt).toSorted((a, b) => a - b);
        const removed = drain(heap);
        expect(removed.map(({ evictableAt }) => evictableAt)).toEqual(sorted);
        expect(new Set(removed)).toEqual(present);
      }),
    );
  });

  test('an insertion and a removal read O(log n) items', () => {
    let reads = 0;
    const createCountedItem = (evictableAt: number): HeapItem => ({
      get evictableAt() {
        reads++;
        return evictableAt;
      },
      heapIndex: -1,
    });
    const heap = new IndexedHeap<HeapItem>();
    const items = Array.from({ length: 2 ** 14 }, (_, index) => createCountedItem((index * 7919) % 2 ** 14));
    for (const item of items) heap.put(item);
    for (const item of items) {
      reads = 0;
      heap.remove(item);
      heap.put(item);
      // Two paths of at most 15 levels. Each level takes at most two comparisons, each of two reads.
      expect(reads).toBeLessThanOrEqual(2 * 15 * 4);
    }
  });
});
