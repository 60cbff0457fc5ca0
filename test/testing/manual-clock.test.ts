/** The clock for tests. */
import fc from 'fast-check';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

describe('ManualClock', () => {
  test('the clock starts at the given instant, and at 0 by default', () => {
    expect(new ManualClock().now()).toBe(0);
    expect(new ManualClock(1e9).now()).toBe(1e9);
    expect(new ManualClock(-5).now()).toBe(-5);
  });

  test('due timers fire in order, each at its own instant, and ties fire in the order of the calls', async () => {
    const clock = new ManualClock(10);
    const fired: [string, number][] = [];
    for (const [name, after] of [
      ['c', 3],
      ['a', 1],
      ['b1', 2],
      ['b2', 2],
      ['late', 9],
    ] as const) {
      clock.schedule(after, () => fired.push([name, clock.now()]));
    }
    await clock.advance(5);
    expect(fired).toEqual([
      ['a', 11],
      ['b1', 12],
      ['b2', 12],
      ['c', 13],
    ]);
    expect(clock.now()).toBe(15);
    expect(clock.pending).toBe(1);
  });

  test('a timer that a continuation schedules within the span fires too, however deep the chain', async () => {
    const clock = new ManualClock();
    const sleep = (seconds: number): Promise<void> => new Promise((resolve) => clock.schedule(seconds, resolve));
    const instants: number[] = [];
    const work = async (): Promise<void> => {
      for (let n = 0; n < 3; n++) {
        for (let deep = 0; deep < 500; deep++) await null;
        await sleep(1);
        instants.push(clock.now());
      }
    };
    const done = work();
    await clock.advance(2.5);
    expect(instants).toEqual([1, 2]);
    await clock.advance(0.5);
    await done;
    expect(instants).toEqual([1, 2, 3]);
  });

  test('the spans of two calls of advance add up, awaited or not', async () => {
    const clock = new ManualClock();
    const fired: number[] = [];
    for (let at = 1; at <= 4; at++) clock.schedule(at, () => fired.push(clock.now()));
    await Promise.all([clock.advance(1), clock.advance(2)]);
    expect(clock.now()).toBe(3);
    expect(fired).toEqual([1, 2, 3]);
  });

  test('a cancelled timer does not fire, and a second or late cancellation has no effect', async () => {
    const clock = new ManualClock();
    const fired: string[] = [];
    const cancel = clock.schedule(1, () => fired.push('cancelled'));
    const cancelLate = clock.schedule(1, () => fired.push('kept'));
    cancel();
    cancel();
    expect(clock.pending).toBe(1);
    await clock.advance(0.5);
    expect(fired).toEqual([]);
    await clock.advance(1);
    cancelLate();
    expect(fired).toEqual(['kept']);
    expect(clock.pending).toBe(0);
  });

  test('advance(0) fires the timers that are due now', async () => {
    const clock = new ManualClock();
    let fired = 0;
    clock.schedule(0, () => fired++);
    await clock.advance(0);
    expect(fired).toBe(1);
  });

  test('runAll fires all timers, also those that callbacks arm, and ends at the last instant', async () => {
    const clock = new ManualClock();
    const fired: number[] = [];
    clock.schedule(100, () => {
      fired.push(clock.now());
      clock.schedule(50, () => fired.push(clock.now()));
    });
    await clock.runAll();
    expect(fired).toEqual([100, 150]);
    expect(clock.now()).toBe(150);
    await clock.advance(1);
    expect(clock.now()).toBe(151);
    await clock.runAll();
    expect(clock.now()).toBe(151);
  });

  test('an error in a callback rejects advance, and the next advance continues from that instant', async () => {
    const clock = new ManualClock();
    clock.schedule(1, () => {
      throw new Error('boom');
    });
    await expect(clock.advance(2)).rejects.toThrow('boom');
    expect(clock.now()).toBe(1);
    await clock.advance(1);
    expect(clock.now()).toBe(3);
  });

  test('any mix of timers and cancellations fires in the order of a sorted list', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ after: fc.integer({ min: 0, max: 20 }), cancel: fc.boolean() }), { maxLength: 30 }),
        async (timers) => {
          const clock = new ManualClock();
          const fired: number[] = [];
          const cancels = timers.map(({ after }, index) => clock.schedule(after, () => fired.push(index)));
          timers.forEach(({ cancel }, index) => cancel && cancels[index]?.());
          await clock.runAll();
          const expected = timers
            .map(({ after, cancel }, index) => ({ after, cancel, index }))
            .filter(({ cancel }) => !cancel)
            .toSorted((a, b) => a.after - b.after || a.index - b.index)
            .map(({ index }) => index);
          expect(fired).toEqual(expected);
        },
      ),
    );
  });

  test('runAll rejects when a callback always schedules the next timer', async () => {
    const clock = new ManualClock();
    const rearm = (): void => void clock.schedule(1, rearm);
    rearm();
    await expect(clock.runAll()).rejects.toThrow(/a callback keeps arming timers/);
  });

  test.each([NaN, -1, Infinity, '1', null])('advance and schedule reject a span of %s', async (seconds) => {
    const clock = new ManualClock();
    await expect(clock.advance(seconds as number)).rejects.toThrow(/seconds must be a finite number >= 0, received/);
    expect(() => clock.schedule(seconds as number, () => {})).toThrow(/seconds must be a finite number >= 0, received/);
  });

  test.each([NaN, Infinity, '1', null])('the constructor rejects a start of %s', (start) => {
    expect(() => new ManualClock(start as number)).toThrow(/start must be a finite number, received/);
  });
});
