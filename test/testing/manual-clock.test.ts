/** ManualClock: what users build their own tests on. */
import fc from 'fast-check';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

describe('ManualClock', () => {
  test('stands still until told, and starts where it is told', () => {
    expect(new ManualClock().now()).toBe(0);
    expect(new ManualClock(1e9).now()).toBe(1e9);
    expect(new ManualClock(-5).now()).toBe(-5);
  });

  test('fires what falls due in order, each at its own instant, ties in the order of the calls', async () => {
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

  test('what a continuation schedules within the span fires too, however deep the continuations', async () => {
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

  test('two calls in a row add up, awaited or not', async () => {
    const clock = new ManualClock();
    const fired: number[] = [];
    for (let at = 1; at <= 4; at++) clock.schedule(at, () => fired.push(clock.now()));
    await Promise.all([clock.advance(1), clock.advance(2)]);
    expect(clock.now()).toBe(3);
    expect(fired).toEqual([1, 2, 3]);
  });

  test('a cancelled timer does not fire, and cancelling twice or late does nothing', async () => {
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

  test('advance(0) fires what is due now', async () => {
    const clock = new ManualClock();
    let fired = 0;
    clock.schedule(0, () => fired++);
    await clock.advance(0);
    expect(fired).toBe(1);
  });

  test('runAll fires all, and what that arms, and ends at the last instant', async () => {
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

  test('a callback that throws rejects the advance, and the clock goes on from there', async () => {
    const clock = new ManualClock();
    clock.schedule(1, () => {
      throw new Error('boom');
    });
    await expect(clock.advance(2)).rejects.toThrow('boom');
    expect(clock.now()).toBe(1);
    await clock.advance(1);
    expect(clock.now()).toBe(3);
  });

  test('any mix of timers and cancellations fires as a sorted list would', async () => {
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

  test('what re-arms itself for ever is told so, not run for ever', async () => {
    const clock = new ManualClock();
    const rearm = (): void => void clock.schedule(1, rearm);
    rearm();
    await expect(clock.runAll()).rejects.toThrow(/re-arms itself for ever/);
  });

  test.each([NaN, -1, Infinity, '1', null])('refuses a span of %s', async (seconds) => {
    const clock = new ManualClock();
    await expect(clock.advance(seconds as number)).rejects.toThrow(/seconds must be a finite number >= 0, received/);
    expect(() => clock.schedule(seconds as number, () => {})).toThrow(/seconds must be a finite number >= 0, received/);
  });

  test.each([NaN, Infinity, '1', null])('refuses a start of %s', (start) => {
    expect(() => new ManualClock(start as number)).toThrow(/start must be a finite number, received/);
  });
});
