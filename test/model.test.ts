/**
 * Random histories against a reference (reference.ts): every comparison is one of equality, down to the instant of each
 * grant.
 */
import { getEventListeners } from 'node:events';
import fc from 'fast-check';
import { type Permit, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { anyOperation, bursts, capacities, concurrencies, expectWithinRate, type Outcome, outcomeOf, periods, Reference } from './reference.js';
import { SkewedClock } from './support.js';

const history = fc.record({
  capacity: capacities,
  concurrency: concurrencies,
  period: periods,
  burst: bursts,
  maxQueue: fc.constantFrom(Infinity, Infinity, 0, 2, 5),
  operations: fc.array(anyOperation, { maxLength: 60, size: 'max' }),
});

describe('a random history ends as the reference says, after every step', () => {
  test('acquire, run, tryAcquire, release, settle, abort, timeout, pause, resume, configure, close, clock steps', async () => {
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(history, async ({ capacity, concurrency, period, burst, maxQueue, operations }) => {
        const clock = new ManualClock();
        const throttle = new Throttle(capacity, concurrency, period, { burst, maxQueue, clock });
        const model = new Reference(capacity, concurrency, period, burst, maxQueue);
        const signals = [0, 1, 2].map(() => new AbortController());
        const aborts: unknown[] = [];
        const log: [number, Outcome, number][] = [];
        const permits = new Map<number, Permit>();
        /** Ends the job of a `run`. */
        const finish = new Map<number, () => void>();
        let serial = 0;

        for (const operation of operations) {
          const id = serial++;
          const held = 'which' in operation && model.grants.length > 0 ? model.grants[operation.which % model.grants.length] : undefined;
          switch (operation.do) {
            case 'acquire':
            case 'run': {
              const { cost, timeout, signal } = operation;
              const controller = signal === undefined ? undefined : (signals[signal] as AbortController);
              const options = { timeout, signal: controller?.signal };
              model.asked.set(id, cost);
              model.acquire(id, cost, timeout, signal);
              const granted = (permit: Permit): void => {
                permits.set(id, permit);
                log.push([id, 'granted', permit.waited]);
              };
              const refused = (error: unknown): void => void log.push([id, outcomeOf(error, aborts), 0]);
              if (operation.do === 'acquire') throttle.acquire(cost, options).then(granted, refused);
              else {
                const job = (permit: Permit): Promise<void> => {
                  granted(permit);
                  return new Promise((resolve) => finish.set(id, resolve));
                };
                throttle.run(job, cost, options).catch(refused);
              }
              break;
            }
            case 'tryAcquire': {
              const { cost } = operation;
              if (cost > model.size) {
                expect(() => throttle.tryAcquire(cost)).toThrow(RangeError);
                break;
              }
              model.asked.set(id, cost);
              model.tryAcquire(id, cost);
              const permit = throttle.tryAcquire(cost);
              if (permit !== undefined) {
                permits.set(id, permit);
                log.push([id, 'granted', 0]);
              }
              break;
            }
            case 'release':
              if (held === undefined) break;
              model.release(held);
              if (finish.has(held.id)) finish.get(held.id)?.();
              else permits.get(held.id)?.release();
              break;
            case 'settle':
              if (held === undefined) break;
              model.settle(held, operation.cost);
              permits.get(held.id)?.settle(operation.cost);
              break;
            case 'abort': {
              const reason = new Error(`abort ${id}`);
              aborts.push(reason);
              signals[operation.signal]?.abort(reason);
              model.dismiss((one) => one.signal === operation.signal, 'aborted');
              signals[operation.signal] = new AbortController();
              break;
            }
            case 'pause':
              throttle.pause(operation.seconds);
              if (operation.seconds > 0) model.pausedUntil = Math.max(model.pausedUntil, model.time + operation.seconds);
              break;
            case 'resume':
              throttle.resume();
              model.pausedUntil = 0;
              model.drain();
              break;
            case 'configure':
              throttle.configure(operation.limits);
              model.configure(operation.limits);
              break;
            case 'close':
              throttle.close();
              model.closed = true;
              model.dismiss(() => true, 'closed');
              break;
            case 'advance':
              model.advance(operation.seconds);
              await clock.advance(operation.seconds);
              break;
          }
          await clock.advance(0);
          seen.set(operation.do, (seen.get(operation.do) ?? 0) + 1);

          // The same calls were decided the same way after the same wait, and the grants came in the same order.
          const grantsOf = (entries: typeof log): typeof log => entries.filter(([, outcome]) => outcome === 'granted');
          expect(grantsOf(log)).toEqual(grantsOf(model.log));
          expect(log.toSorted(([a], [b]) => a - b)).toEqual(model.log.toSorted(([a], [b]) => a - b));
          for (const [, outcome] of log) seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
          // FIFO: ids count the calls.
          const order = grantsOf(log).map(([grantee]) => grantee);
          expect(order).toEqual(order.toSorted((a, b) => a - b));

          expect(throttle.active).toBe(model.active);
          expect(throttle.waiting).toBe(model.queue.length);
          expect(throttle.closed).toBe(model.closed);
          expect(throttle.pausedFor).toBe(Math.max(0, model.pausedUntil - model.time));
          expect(throttle.tokens).toBe(model.capacity === Infinity ? model.size : model.tokens);
          expect(throttle.estimateWait(0)).toBe(model.wait(model.queue.reduce((sum, one) => sum + one.cost, 0)));
          // One timer for the head if time alone can free it, one for each deadline, none else.
          const head = model.queue[0];
          const timed = head !== undefined && model.slotFree(head.id) && model.wait(head.cost) < Infinity ? 1 : 0;
          expect(clock.pending).toBe(timed + model.queue.filter((one) => one.deadline < Infinity).length);
          // One listener for each signal that somebody waits on.
          signals.forEach(({ signal }, index) => {
            expect(getEventListeners(signal, 'abort').length).toBe(model.queue.some((one) => one.signal === index) ? 1 : 0);
          });
        }
        expectWithinRate(model);

        // Whatever happened, it comes to rest: everyone leaves, and nothing is left behind.
        throttle.close();
        for (const end of finish.values()) end();
        for (const permit of permits.values()) permit.release();
        await throttle.idle();
        expect([throttle.active, throttle.waiting, clock.pending]).toEqual([0, 0, 0]);
      }),
      { numRuns: 1500 },
    );
    // A history that never grants, refuses or aborts proves nothing.
    for (const what of ['granted', 'timeout', 'full', 'closed', 'aborted', 'oversize', 'settle', 'configure', 'pause', 'tryAcquire']) {
      expect(seen.get(what), what).toBeGreaterThan(100);
    }
  });
});

describe('a clock that misbehaves grants nothing extra and holds nobody for ever', () => {
  const costs = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 30 });

  /** The bound, by true time. */
  const expectBound = (grants: readonly { at: number; cost: number }[], burst: number, rate: number): void => {
    grants.forEach((first, from) => {
      let sum = 0;
      for (const { at, cost } of grants.slice(from)) {
        sum += cost;
        expect(sum).toBeLessThanOrEqual(burst + rate * (at - first.at) + 1e-6);
      }
    });
  };

  test('stepping back, by any amount, at any time', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.array(fc.record({ after: fc.double({ min: 0, max: 2, noNaN: true }), back: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 5000, noNaN: true })) }), { maxLength: 10 }), async (asked, steps) => {
        const clock = new SkewedClock();
        const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
        const grants: { at: number; cost: number }[] = [];
        const jobs = asked.map((cost) => throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost));
        for (const { after, back } of steps) {
          await clock.passing.advance(after);
          clock.skew -= back;
          if (throttle.tryAcquire(1) !== undefined) grants.push({ at: clock.passing.now(), cost: 1 });
        }
        // All that was asked for, at the rate of 4, and nothing later than that.
        await clock.passing.advance((asked.reduce((sum, cost) => sum + cost, 0) + steps.length) / 4);
        await Promise.all(jobs);
        expectBound(grants, 5, 4);
      }),
    );
  });

  test('timers that fire early: no grant before its time, a handful of timers, no spin', async () => {
    await fc.assert(
      fc.asyncProperty(costs, fc.double({ min: 0.5, max: 0.999, noNaN: true }), async (asked, haste) => {
        const clock = new SkewedClock();
        clock.fires = (seconds) => seconds * haste;
        const throttle = new Throttle(4, 0, 1, { burst: 5, clock });
        const grants: { at: number; cost: number }[] = [];
        const jobs = asked.map((cost) => throttle.run(() => void grants.push({ at: clock.passing.now(), cost }), cost));
        await clock.passing.advance(asked.reduce((sum, cost) => sum + cost, 0) / 4 + 1);
        await Promise.all(jobs);
        expectBound(grants, 5, 4);
        // Each attempt is half of what is left at the most, down to the grain of the numbers.
        expect(clock.delays.length).toBeLessThanOrEqual(asked.length * 64);
      }),
    );
  });

  test('standing still: nothing is granted, and the timer is set again for the whole delay', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(4, 0, 1, { clock });
    throttle.tryAcquire(4);
    const waiting = throttle.acquire(1);
    const frozen = vi.spyOn(clock, 'now').mockReturnValue(clock.now());
    await clock.passing.advance(10);
    expect(throttle.waiting).toBe(1);
    expect(clock.delays.length).toBe(41);
    frozen.mockRestore();
    await clock.passing.advance(0.25);
    expect(throttle.waiting).toBe(0);
    (await waiting).release();
  });
});
