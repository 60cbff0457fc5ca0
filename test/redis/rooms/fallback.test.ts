/** The gate that grants permits by itself while Redis fails. */
import { EventPublisher } from '../../../src/core/events.js';
import { Throttle } from '../../../src/core/throttle.js';
import { PendingCalls } from '../../../src/redis/calls.js';
import { Fallback, type LocalGate } from '../../../src/redis/fallback.js';
import type { Lease } from '../../../src/redis/lease.js';
import { SteadyClock } from '../../../src/redis/steady-clock.js';
import { ManualClock } from 'headgate/testing';
import { expect, test } from 'vitest';
import { Outcomes } from '../../support/support.js';

class Scene {
  readonly clock: ManualClock = new ManualClock();
  readonly outcomes: Outcomes = new Outcomes();
  readonly reasons: (string | undefined)[] = [];
  readonly fallback: Fallback;
  readonly #calls: PendingCalls;

  constructor(capacity = Infinity, gate?: LocalGate) {
    const clock = new SteadyClock(this.clock);
    this.#calls = new PendingCalls(clock, { onAbort() {}, onTimeout() {} });
    const local = gate ?? new Throttle(capacity, 1, 1, { clock: this.clock });
    this.fallback = new Fallback(local, new EventPublisher(undefined, clock), (call, error, reason) => {
      this.reasons.push(reason);
      if (call.tries && error === undefined) call.resolve(undefined);
      else call.reject(error);
    });
  }

  async acquire(name: string, options: { signal?: AbortSignal; timeout?: number } = {}, tries = false): Promise<void> {
    const since = this.clock.now() - 2;
    this.outcomes.follow(
      name,
      new Promise((resolve, reject) => {
        this.fallback.acquire(this.#calls.create(1, since, options, tries, resolve, reject), since + 2);
      }),
    );
    await this.clock.advance(0);
  }

  permit(name: string): Lease {
    return this.outcomes.permit(name) as Lease;
  }

  get state(): string {
    return `${this.outcomes.order.join(' ')} | ${this.fallback.held} ${this.fallback.waiting}`;
  }
}

test('permits of the fallback are counted, have slot 0, and are granted in order', async () => {
  const scene = new Scene();
  for (const name of ['a', 'b', 'c']) await scene.acquire(name);
  expect(scene.state).toBe('a | 1 2');
  const permit = scene.permit('a');
  expect([permit.slot, permit.signal.aborted, permit.waited]).toEqual([0, false, 2]);
  await scene.clock.advance(3);
  permit.release();
  permit.release();
  await scene.clock.advance(0);
  expect(scene.state).toBe('a b | 1 1');
  expect(scene.permit('b').waited).toBe(5);
});

test('the time before the failure counts against the timeout', async () => {
  const scene = new Scene();
  await scene.acquire('a');
  await scene.acquire('b', { timeout: 5 });
  await scene.clock.advance(2.9);
  expect(scene.state).toBe('a | 1 1');
  await scene.clock.advance(0.2);
  expect(scene.state).toBe('a b! | 1 0');
  await scene.acquire('c', { timeout: 1 });
  expect(scene.state).toBe('a b! c! | 1 0');
});

test('an abort ends the wait, and its refusal has the reason `aborted`', async () => {
  const scene = new Scene();
  const controller = new AbortController();
  await scene.acquire('a');
  await scene.acquire('b', { signal: controller.signal });
  controller.abort(new Error('cancel'));
  await scene.clock.advance(0);
  expect([scene.state, scene.reasons]).toEqual(['a b! | 1 0', ['aborted']]);
});

test('tryAcquire takes a free slot, and resolves with undefined otherwise', async () => {
  const scene = new Scene();
  await scene.acquire('a', { timeout: 0 }, true);
  await scene.acquire('b', { timeout: 0 }, true);
  expect([scene.state, scene.permit('a').slot, scene.permit('b')]).toEqual(['a b | 1 0', 0, undefined]);
});

test('an error of tryAcquire rejects the call', async () => {
  const refusing = {
    tryAcquire() {
      throw new RangeError('too large');
    },
  } as unknown as LocalGate;
  const scene = new Scene(Infinity, refusing);
  await scene.acquire('a', { timeout: 0 }, true);
  expect(scene.state).toBe('a! | 0 0');
});

test('pause and resume reach the local gate', async () => {
  const scene = new Scene();
  scene.fallback.pause(10);
  await scene.acquire('a');
  expect(scene.state).toBe(' | 0 1');
  scene.fallback.resume();
  await scene.clock.advance(0);
  expect(scene.state).toBe('a | 1 0');
});

test('a settlement gives tokens back to the local gate', async () => {
  const scene = new Scene(1);
  await scene.acquire('a');
  scene.permit('a').refund();
  scene.permit('a').release();
  await scene.acquire('b');
  expect(scene.state).toBe('a b | 1 0');
});
