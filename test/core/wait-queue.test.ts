/** The queue by itself: order, sums, and that it does not grow. */
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
  });

describe('WaitQueue', () => {
  test('any order of joining, granting and refusing leaves the list that an array would', async () => {
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
              // The one who joined is known once it is first; until then, by its instant.
              model.push({ id, waiter: undefined as never });
            } else if (step % 3 === 1) {
              const head = queue.head;
              expect(head?.since).toBe(model.shift()?.id);
              if (head !== undefined) queue.grant(head, `granted ${head.since}`);
            } else {
              const gone = model.splice(step % model.length, 1)[0]?.id;
              queue.refuseAll((waiter) => (waiter.since === gone ? new Error(`refused ${gone}`) : undefined));
            }
            expect(queue.size).toBe(model.length);
            expect(queue.head?.since).toBe(model[0]?.id);
            expect(queue.cost).toBeCloseTo(model.length * 0.1, 9);
          });
          queue.refuseAll(() => new Error('the end'));
          expect([queue.size, queue.cost, queue.head]).toEqual([0, 0, undefined]);
          expect((await Promise.all(settled)).length).toBe(settled.length);
        },
      ),
    );
  });

  test('what rounding leaves of the sum goes with the last', () => {
    const queue = setUp();
    for (const cost of [0.1, 0.2, 0.3]) void queue.enqueue(cost, 0, undefined, undefined);
    for (let left = 3; left > 0; left--) if (queue.head !== undefined) queue.grant(queue.head, '');
    expect(0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3).not.toBe(0);
    expect(queue.cost).toBe(0);
  });

  test('what those ask for who stay is known, however many have left', () => {
    const queue = setUp();
    for (let since = 0; since < 1_000; since++) void queue.enqueue(1, since, undefined, undefined).catch(() => {});
    queue.refuseAll(({ since }) => (since % 100 === 50 ? undefined : new Error('gone')));
    expect([queue.size, queue.cost, queue.head?.since]).toEqual([10, 10, 50]);
  });

  test('half a million who come and go behind one who stays leave no trace in memory', async () => {
    const gc = globalThis.gc;
    if (gc === undefined) throw new Error('run with --expose-gc');
    const queue = setUp();
    const gone = new Error('gone');
    void queue.enqueue(1, -1, undefined, undefined);
    const rounds = async (count: number): Promise<void> => {
      for (let round = 0; round < count; round++) {
        const joined = Array.from({ length: 1000 }, (_, n) =>
          queue.enqueue(1, n, undefined, undefined).catch(() => {}),
        );
        queue.refuseAll((waiter) => (waiter.since >= 0 ? gone : undefined));
        await Promise.all(joined);
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
