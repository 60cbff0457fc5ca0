/** The calls of gates to the hooks of the development aids. The aids themselves have a folder of their own. */
import { KeyedThrottle, Limiter, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { development } from '../../src/core/development.js';

afterEach(() => {
  development.aids = undefined;
});

test('all copies of the package share the hooks', async () => {
  const KEY = Symbol.for('headgate.development');
  const shared = globalThis as { [KEY]?: unknown };
  expect(shared[KEY]).toBe(development);
  onTestFinished(() => void (shared[KEY] = development));
  delete shared[KEY];
  vi.resetModules();
  const { development: first } = await import('../../src/core/development.js');
  vi.resetModules();
  const { development: second } = await import('../../src/core/development.js');
  expect(first).toEqual({ aids: undefined });
  expect([second === first, shared[KEY] === first]).toEqual([true, true]);
});

/** Records the calls of all hooks that gates call. */
function record(): unknown[][] {
  const calls: unknown[][] = [];
  const add =
    (name: string) =>
    (...args: unknown[]): void =>
      void calls.push([name, ...args]);
  development.aids = {
    granted: add('granted'),
    queued: add('queued'),
    refused: add('refused'),
    released: add('released'),
    joined: add('joined'),
    checkNested: add('checkNested'),
    runJob(fn, permit) {
      calls.push(['runJob', permit]);
      return fn(permit);
    },
    callFrom(fn) {
      calls.push(['callFrom']);
      return fn();
    },
    openCalls: () => ({ permits: [], waiting: [] }),
    configure: add('configure'),
  };
  return calls;
}

/** Compares calls by the identity of their arguments. Two gates are deeply equal. */
function expectCalls(calls: unknown[][], expected: unknown[][]): void {
  expect(calls.map(([name]) => name)).toEqual(expected.map(([name]) => name));
  expected.flat().forEach((argument, index) => expect(calls.flat()[index]).toBe(argument));
}

test('the aids receive every step of a call, with its gate, its permit and its slots', async () => {
  const throttle = new Throttle(Infinity, 2, 1, { clock: new ManualClock() });
  const calls = record();
  const first = await throttle.acquire(1, { slots: 2 });
  const waiting = throttle.acquire(1, { slots: 2 });
  const cleared = throttle.acquire();
  first.release();
  const second = await waiting;
  throttle.clear();
  await expect(cleared).rejects.toThrow('clear()');
  const [waiter, other] = [calls[2]?.[2], calls[4]?.[2]];
  expect([typeof waiter, typeof other, waiter === other]).toEqual(['object', 'object', false]);
  expectCalls(calls, [
    ['granted', throttle, first, undefined],
    ['checkNested', throttle, 2],
    ['queued', throttle, waiter, 2],
    ['checkNested', throttle, 1],
    ['queued', throttle, other, 1],
    ['released', first],
    ['granted', throttle, second, waiter],
    ['refused', other],
  ]);
});

test('run and map call each job through the aids', async () => {
  const throttle = new Throttle(Infinity, 0, 1, { clock: new ManualClock() });
  const calls = record();
  expect(await throttle.run((permit) => permit.cost, 3)).toBe(3);
  expect(await throttle.map(['a', 'b'], (item, index) => `${item}${index}`)).toEqual(['a0', 'b1']);
  const named = (name: string): unknown[][] => calls.filter(([each]) => each === name);
  expectCalls(
    named('runJob'),
    named('granted').map(([, , permit]) => ['runJob', permit]),
  );
  expect([named('runJob').length, named('callFrom').length]).toEqual([3, 1]);
});

test('the aids receive the throttle of a key, and no gate from a silent throttle', () => {
  const keyed = new KeyedThrottle(Infinity, 1);
  const silent = new Throttle(Infinity, 1, 1, { silent: true });
  const calls = record();
  const permit = keyed.tryAcquire('ada');
  const hidden = silent.tryAcquire();
  expectCalls(calls, [
    ['granted', keyed.peek('ada'), permit, undefined],
    ['granted', undefined, hidden, undefined],
  ]);
});

test('a permit of a Limiter is reported with the permits that it stands for', async () => {
  const [files, database] = [new Throttle(Infinity, 1), new Throttle(Infinity, 1)];
  const limiter = new Limiter({ timeout: 1, resources: [files, database] });
  const calls = record();
  const joint = await limiter.acquire([files, database]);
  const granted = calls.filter(([name]) => name === 'granted').map(([, , permit]) => permit);
  const [, permit, parts] = calls.find(([name]) => name === 'joined') ?? [];
  expect(permit).toBe(joint);
  expectCalls([parts as unknown[]], [granted]);
  joint.release();
});
