/** The queue without a gate: order, sums of costs, and memory. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { WaitQueue } from '../../src/core/wait-queue.js';

const setUp = (): WaitQueue<string> =>
  new WaitQueue<string>({
    schedule: () => () => {},
    now: () => 0,
    reschedule() {},
    grantBeforeTimeout() {},
    onRefused() {},
    onResize() {},
  });

describe('WaitQueue', () => {
  test('has the same waiters as an array after any sequence of enqueue, grant and refuse', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.constant(-1), fc.nat(300)), { maxLength: 400, size: 'max' }),
        async (steps) => {
          const queue = setUp();
          const model: { id: number; waiter: NonNullable<typeof queue.head> }[] = [];
          const settled: Promise<unknown>[] = [];
          steps.forEach((step, id) => {
            if (step < 0 || model.length === 0 || step % 3 === 0) {
              settled.push(queue.enqueue(0.1, id, undefined, undefined).catch((error: Error) => error.message));
              // The instant of the call identifies a waiter until it becomes the head.
              model.push({ id, waiter: undefined as never });
            } else if (step % 3 === 1) {
              const head = queue.head;
              expect(head?.since).toBe(model.shift()?.id);
              if (head !== undefined) queue.grant(head, `granted ${head.since}`);
            } else {
              const refusedId = model.splice(step % model.length, 1)[0]?.id;
              queue.refuseAll((waiter) => (waiter.since === refusedId ? new Error(`refused ${refusedId}`) : undefined));
            }
            expect(queue.size).toBe(model.length);
            expect(queue.head?.since).toBe(model[0]?.id);
            expect(queue.cost).toBeCloseTo(model.length * 0.1, 9);
          });
          queue.refuseAll(() => new Error('closed'));
          expect([queue.size, queue.cost, queue.head]).toEqual([0, 0, undefined]);
          expect((await Promise.all(settled)).length).toBe(settled.length);
        },
      ),
    );
  });

  test('the sum of costs is exactly 0 after the last waiter', () => {
    const queue = setUp();
    for (const cost of [0.1, 0.2, 0.3]) void queue.enqueue(cost, 0, undefined, undefined);
    for (let left = 3; left > 0; left--) if (queue.head !== undefined) queue.grant(queue.head, '');
    expect(0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3).not.toBe(0);
    expect(queue.cost).toBe(0);
  });

  test('the sum of costs counts only the remaining waiters after 990 of 1,000 are refused', () => {
    const queue = setUp();
    for (let since = 0; since < 1_000; since++) void queue.enqueue(1, since, undefined, undefined).catch(() => {});
    queue.refuseAll(({ since }) => (since % 100 === 50 ? undefined : new Error('refused')));
    expect([queue.size, queue.cost, queue.head?.since]).toEqual([10, 10, 50]);
  });

  test('the queue frees the memory of refused waiters while its head still waits', async () => {
    const gc = globalThis.gc;
    if (gc === undefined) throw new Error('run with --expose-gc');
    const queue = setUp();
    const error = new Error('refused');
    void queue.enqueue(1, -1, undefined, undefined);
    const rounds = async (count: number): Promise<void> => {
      for (let round = 0; round < count; round++) {
        const waiters = Array.from({ length: 1000 }, (_, n) =>
          queue.enqueue(1, n, undefined, undefined).catch(() => {}),
        );
        queue.refuseAll((waiter) => (waiter.since >= 0 ? error : undefined));
        await Promise.all(waiters);
      }
    };
    await rounds(20);
    gc();
    const before = process.memoryUsage().heapUsed;
    await rounds(500);
    gc();
    expect(queue.size).toBe(1);
    // An array with half a million holes would be 4 MB.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(1e6);
  });
});
