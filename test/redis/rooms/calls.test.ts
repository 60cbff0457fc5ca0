/** Pending calls, with signals and clocks that behave badly. */
import { getEventListeners } from 'node:events';
import type { Clock } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { abortReasonOf, type Call, PendingCalls } from '../../../src/redis/calls.js';
import { SteadyClock } from '../../../src/redis/steady-clock.js';

class Scene {
  readonly clock: ManualClock = new ManualClock();
  readonly ends: string[] = [];
  readonly calls: PendingCalls;

  constructor(clock?: Clock) {
    this.calls = new PendingCalls(new SteadyClock(clock ?? this.clock), {
      onAbort: (call) => this.#end('aborted', call),
      onTimeout: (call) => this.#end('timeout', call),
    });
  }

  #end(how: string, call: Call): void {
    this.ends.push(`${how} ${call.serial}`);
    this.calls.remove(call);
  }

  create(options: { signal?: AbortSignal; timeout?: number } = {}): Call {
    return this.calls.create(
      1,
      0,
      options,
      false,
      () => {},
      () => {},
    );
  }

  add(options?: { signal?: AbortSignal; timeout?: number }): Call {
    const call = this.create(options);
    expect(this.calls.add(call)).toBe(true);
    return call;
  }

  get serials(): string[] {
    return this.calls.list().map(({ serial }) => serial);
  }
}

const listenersOf = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

describe('the list', () => {
  test('serials are unique, and calls keep their order', () => {
    const scene = new Scene();
    const calls = Array.from({ length: 5 }, () => scene.add());
    expect(scene.serials).toEqual(['0', '1', '2', '3', '4']);
    for (const index of [2, 0, 4]) scene.calls.remove(calls[index]!);
    expect(scene.calls.first()).toBe(calls[1]);
    scene.add();
    expect(scene.serials).toEqual(['1', '3', '5']);
    for (const index of [1, 3]) scene.calls.remove(calls[index]!);
    expect(scene.calls.first()?.serial).toBe('5');
    scene.calls.remove(calls[1]!);
    expect([scene.calls.size, scene.calls.has(calls[1]!), scene.calls.get('5')?.serial]).toEqual([1, false, '5']);
    scene.calls.remove(scene.calls.first()!);
    expect(scene.calls.first()).toBeUndefined();
    expect(scene.add().serial).toBe('6');
  });

  test('to find and remove the first of 200,000 calls takes constant time', () => {
    const scene = new Scene();
    for (let index = 0; index < 200_000; index++) scene.calls.add(scene.create());
    const start = performance.now();
    for (let call = scene.calls.first(); call !== undefined; call = scene.calls.first()) scene.calls.remove(call);
    // A map alone takes half a minute, since it passes all removed entries each time.
    expect(performance.now() - start).toBeLessThan(5_000);
  });
});

describe('ends', () => {
  test('an abort or a timeout ends a call once, and leaves no listener and no timer', async () => {
    const scene = new Scene();
    const controller = new AbortController();
    const { signal } = controller;
    scene.add({ signal, timeout: 5 });
    scene.add({ timeout: 2 });
    scene.calls.remove(scene.add({ signal, timeout: 1 }));
    await scene.clock.advance(3);
    controller.abort();
    await scene.clock.advance(10);
    expect(scene.ends).toEqual(['timeout 1', 'aborted 0']);
    expect([listenersOf(signal), scene.clock.pending]).toEqual([0, 0]);
  });

  test('a timeout of 0 or Infinity sets no timer', () => {
    const scene = new Scene();
    scene.add({ timeout: 0 });
    scene.add({ timeout: Infinity });
    expect(scene.clock.pending).toBe(0);
  });
});

/** A signal with one method or property replaced. */
const faultySignal = (replaced: object): AbortSignal =>
  Object.defineProperties(new AbortController().signal, Object.getOwnPropertyDescriptors(replaced));

describe('faulty signals and clocks', () => {
  test('a signal that aborts inside addEventListener ends the call at once', () => {
    const scene = new Scene();
    const signal = faultySignal({ addEventListener: (_: string, listener: () => void) => listener() });
    expect(scene.calls.add(scene.create({ signal, timeout: 5 }))).toBe(false);
    expect(scene.ends).toEqual(['aborted 0']);
    expect([scene.calls.size, scene.clock.pending]).toEqual([0, 0]);
  });

  test.each([
    ['addEventListener throws', faultySignal({ addEventListener: () => thrower() })],
    [
      'aborted throws',
      faultySignal({
        get aborted() {
          return thrower();
        },
      }),
    ],
  ])('nothing is added if %s', (_, signal) => {
    const scene = new Scene();
    const call = scene.create({ signal, timeout: 5 });
    expect(() => scene.calls.add(call)).toThrow('faulty');
    expect([scene.calls.size, scene.clock.pending, listenersOf(signal)]).toEqual([0, 0, 0]);
  });

  test('nothing is added if the clock cannot set a timer', () => {
    const scene = new Scene({ now: () => 0, schedule: () => thrower() });
    const { signal } = new AbortController();
    expect(() => scene.calls.add(scene.create({ signal, timeout: 5 }))).toThrow('faulty');
    expect([scene.calls.size, listenersOf(signal)]).toEqual([0, 0]);
  });

  test('a signal that aborts while the clock sets the timer ends the call with its reason', () => {
    const controller = new AbortController();
    const scene = new Scene({
      now: () => 0,
      schedule: () => {
        controller.abort(new Error('cancel'));
        return () => {};
      },
    });
    const call = scene.create({ signal: controller.signal, timeout: 5 });
    expect(() => scene.calls.add(call)).toThrow('cancel');
    expect(scene.calls.size).toBe(0);
  });

  test('a call that ends while the clock sets its timer keeps no timer and no listener', () => {
    const passing = new ManualClock();
    let end = (): void => {};
    const scene = new Scene({
      now: () => passing.now(),
      schedule: (seconds, callback) => {
        end();
        return passing.schedule(seconds, callback);
      },
    });
    const { signal } = new AbortController();
    const call = scene.create({ signal, timeout: 5 });
    end = () => scene.calls.remove(call);
    expect(scene.calls.add(call)).toBe(false);
    expect([passing.pending, listenersOf(signal)]).toEqual([0, 0]);
  });

  test('the reason of a signal whose getter throws is the thrown error', () => {
    expect(
      abortReasonOf(
        faultySignal({
          get reason() {
            return thrower();
          },
        }),
      ),
    ).toMatchObject({ message: 'faulty' });
    expect(abortReasonOf(AbortSignal.abort('why'))).toBe('why');
    expect(abortReasonOf(undefined)).toBeUndefined();
  });
});

function thrower(): never {
  throw new Error('faulty');
}
