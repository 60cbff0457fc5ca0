/** The queue without a gate: order, sums of costs, deadlines, and memory. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Terms } from '../../src/core/cost.js';
import { type QueueOwner, WaitQueue } from '../../src/core/wait-queue.js';
import { SkewedClock } from '../support/support.js';

const setUp = (owner?: Partial<QueueOwner<string>>): WaitQueue<string> =>
  new WaitQueue<string>({
    schedule: () => () => {},
    now: () => 0,
    reschedule() {},
    grantBeforeTimeout() {},
    onRefused() {},
    onResize() {},
    ...owner,
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

  test('the sums of vectors count only the remaining waiters, and are exactly 0 after the last one', () => {
    const queue = setUp();
    for (const cost of [0.1, 0.2, 0.3]) void queue.enqueue(1, 0, undefined, undefined, new Terms([1, cost], 1));
    const [main, named] = queue.sumWith([4, 0]);
    expect(main).toBe(7);
    expect(named).toBeCloseTo(0.6, 12);
    const next = (): void => {
      if (queue.head !== undefined) queue.grant(queue.head, '');
    };
    next();
    expect(queue.sumWith([4, 0])[0]).toBe(6);
    expect(queue.sumWith([4, 0])[1]).toBeCloseTo(0.5, 12);
    next();
    next();
    expect(queue.sumWith([4, 0])).toEqual([4, 0]);
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

describe('a deadline', () => {
  const timeoutError = new Error('too late');
  /** A queue on a clock whose timers fire at half their time, and one waiter with a deadline after 8 s. */
  const wait = (schedule: (clock: SkewedClock) => QueueOwner<string>['schedule']) => {
    const clock = new SkewedClock();
    clock.fires = (seconds) => (seconds > 1 ? seconds / 2 : seconds);
    const queue = setUp({ now: () => clock.now(), schedule: schedule(clock) });
    const cancel = { signal: undefined, timeout: 8, makeTimeoutError: () => timeoutError as never };
    return { clock, queue, waiting: queue.enqueue(1, clock.now(), cancel, undefined) };
  };

  test('is kept by timers that fire early', async () => {
    const { clock, queue, waiting } = wait((on) => on.schedule.bind(on));
    await clock.passing.advance(7.999);
    expect([queue.size, clock.delays]).toEqual([1, [8, 4, 2, 1]]);
    void clock.passing.advance(0.001);
    await expect(waiting).rejects.toBe(timeoutError);
    expect([queue.size, clock.passing.pending]).toEqual([0, 0]);
  });

  test('has one timer on a clock that calls back twice', async () => {
    const { clock, waiting } = wait((on) => (seconds, callback) => {
      const twice = (): void => {
        callback();
        callback();
      };
      return on.schedule(seconds, twice);
    });
    await clock.passing.advance(7.5);
    expect([clock.delays, clock.passing.pending]).toEqual([[8, 4, 2, 1], 1]);
    void clock.passing.advance(0.5);
    await expect(waiting).rejects.toBe(timeoutError);
  });

  test('has no timer after the grant, on a clock that calls back for a cancelled timer', async () => {
    const { clock, queue, waiting } = wait((on) => (seconds, callback) => {
      const cancel = on.schedule(seconds, callback);
      return () => {
        cancel();
        callback();
      };
    });
    await clock.passing.advance(3);
    if (queue.head !== undefined) queue.grant(queue.head, 'permit');
    expect(clock.passing.pending).toBe(0);
    expect(await waiting).toBe('permit');
  });

  test('refuses the waiter with the error of a clock that sets no further timer', async () => {
    const error = new Error('no timer');
    const { clock, waiting } = wait((on) => (seconds, callback) => {
      if (seconds === 4) throw error;
      return on.schedule(seconds, callback);
    });
    void clock.passing.advance(4);
    await expect(waiting).rejects.toBe(error);
  });
});

test('a waiter whose error cannot be created is refused with the error of the attempt', async () => {
  const queue = setUp();
  const error = new Error('no reason');
  const controller = new AbortController();
  const { signal } = controller;
  Object.defineProperty(signal, 'reason', {
    get() {
      throw error;
    },
  });
  const cancel = { signal, timeout: Infinity, makeTimeoutError: () => error as never };
  const waiting = queue.enqueue(1, 0, cancel, undefined);
  controller.abort();
  await expect(waiting).rejects.toBe(error);
});
