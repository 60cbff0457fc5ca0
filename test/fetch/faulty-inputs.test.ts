/**
 * Faulty functions and objects that a caller passes to throttledFetch. The request settles, the next request is served,
 * and no slot, timer or listener is left behind.
 */
import { KeyedThrottle, Throttle } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

const URL_A = 'https://a.example/items';
const onUnhandledRejection = vi.fn();
process.on('unhandledRejection', onUnhandledRejection);
beforeEach(() => void vi.spyOn(Math, 'random').mockReturnValue(0));
afterEach(async () => {
  await new Promise((resolve) => void setImmediate(resolve));
  expect(onUnhandledRejection).not.toHaveBeenCalled();
});

const BROKEN = new Error('broken');
const fail = (): never => {
  throw BROKEN;
};
/** A thenable that settles three times: first as given, then with a response, then with an error. */
const settleRepeatedly = (first: 'resolve' | 'reject', value: unknown): unknown => ({
  then(resolve: (value: unknown) => unknown, reject: (error: unknown) => unknown) {
    if (first === 'resolve') resolve(value);
    else reject(value);
    resolve(new Response('second'));
    reject(new Error('second'));
  },
});
const cancelled = vi.fn();
/** A response whose body never ends. `cancelled` records its cancellation. */
const endless = (status = 200, headers: HeadersInit = {}): Response =>
  new Response(new ReadableStream({ cancel: cancelled }), { status, headers });

/** The result of one request: its status, the error of its rejection, or a pattern of the message of that error. */
type Outcome = number | Error | RegExp;
interface Case {
  options?: Record<string, unknown>;
  /** The second argument of `fetch`. */
  init?: (signal: AbortSignal) => RequestInit;
  outcome: Outcome;
  /** The time of the abort, in seconds. */
  abortAt?: number;
  /** Number of cancelled bodies. Default 0. */
  discards?: number;
  /** Number of tokens spent: one for each attempt that was sent and not refused. Default 0. */
  spent?: number;
}

const REFUSAL_MESSAGE = 'refusal must be a function that returns a boolean, a finite number >= 0 or undefined';
const ABORT = new Error('caller aborted');
const delayValue = <T>(clock: ManualClock, value: T, seconds = 5): Promise<T> =>
  new Promise((resolve) => void clock.schedule(seconds, () => resolve(value)));
const never = (): Promise<never> => new Promise(() => {});

/** An AbortSignal, except for some members. */
const signalWith = (members: Record<string, PropertyDescriptor>): AbortSignal =>
  Object.defineProperties(new AbortController().signal, members);

/** The faults of each input. Each case is a function of the clock, because a result may arrive late. */
const cases: Record<string, Record<string, (clock: ManualClock) => Case>> = {
  key: {
    throws: () => ({ options: { key: fail }, outcome: BROKEN }),
    'returns undefined': () => ({ options: { key: () => {} }, outcome: /key must be a key, received undefined/ }),
    'settles late': () => ({
      options: { key: async () => 'a' },
      outcome: /key must be no promise, received object/,
    }),
    rejects: () => ({ options: { key: () => Promise.reject(BROKEN).catch(() => {}) }, outcome: /no promise/ }),
    'returns an object, which is a valid key': () => ({ options: { key: () => ({}) }, outcome: 200 }),
  },
  cost: {
    throws: () => ({ options: { cost: fail }, outcome: BROKEN }),
    'returns undefined': () => ({
      options: { cost: () => {} },
      outcome: /cost must be a finite number >= 0, received undefined/,
    }),
    'settles late': (clock) => ({ options: { cost: () => delayValue(clock, 2) }, outcome: 200, spent: 2 }),
    'settles several times': () => ({
      options: { cost: () => settleRepeatedly('resolve', 3) },
      outcome: 200,
      spent: 3,
    }),
    rejects: () => ({ options: { cost: async () => fail() }, outcome: BROKEN }),
    'resolves with undefined': () => ({ options: { cost: async () => {} }, outcome: /received undefined/ }),
    'never settles, and the signal aborts': () => ({ options: { cost: never }, abortAt: 3, outcome: ABORT }),
    'rejects after an abort': (clock) => ({
      options: { cost: () => delayValue(clock, 0).then(fail) },
      abortAt: 3,
      outcome: ABORT,
    }),
    'rejects, and the signal is aborted before the call': () => ({
      options: { cost: async () => fail() },
      init: () => ({ signal: AbortSignal.abort(ABORT) }),
      outcome: ABORT,
    }),
    'has a `then` that throws': () => ({
      options: { cost: () => Object.defineProperty({}, 'then', { get: fail }) },
      outcome: BROKEN,
    }),
    'is a record with a negative number': () => ({
      options: { cost: () => ({ tokens: -1 }) },
      outcome: /cost\.tokens must be a finite number >= 0, received -1/,
    }),
    'is a list': () => ({
      options: { cost: () => [1] },
      outcome: /cost must be a finite number >= 0, received object/,
    }),
    'returns NaN': () => ({ options: { cost: () => NaN }, outcome: /received NaN/ }),
    'returns a negative number': () => ({ options: { cost: () => -1 }, outcome: /received -1/ }),
    'returns Infinity': () => ({ options: { cost: () => Infinity }, outcome: /received Infinity/ }),
    'returns more than the burst': () => ({ options: { cost: () => 1e9 }, outcome: /cost must be/ }),
  },
  fetch: {
    throws: () => ({ options: { fetch: fail }, outcome: BROKEN, spent: 1 }),
    rejects: () => ({ options: { fetch: async () => fail() }, outcome: BROKEN, spent: 1 }),
    'settles late': (clock) => ({
      options: { fetch: () => delayValue(clock, new Response('late')) },
      outcome: 200,
      spent: 1,
    }),
    'returns a response without a promise': () => ({
      options: { fetch: () => new Response('ok') },
      outcome: 200,
      spent: 1,
    }),
    'settles several times': () => ({
      options: { fetch: () => settleRepeatedly('resolve', new Response('ok', { status: 201 })) },
      outcome: 201,
      spent: 1,
    }),
    'rejects, then resolves': () => ({
      options: { fetch: () => settleRepeatedly('reject', BROKEN) },
      outcome: BROKEN,
      spent: 1,
    }),
    'never settles and ignores an abort': () => ({
      options: { fetch: never },
      abortAt: 3,
      outcome: ABORT,
      spent: 1,
    }),
    'ignores an abort and resolves later: the response is discarded': (clock) => ({
      options: { fetch: () => delayValue(clock, endless()) },
      abortAt: 3,
      outcome: ABORT,
      spent: 1,
      discards: 1,
    }),
    'ignores an abort and rejects later': (clock) => ({
      options: { fetch: () => delayValue(clock, 0).then(fail) },
      abortAt: 3,
      outcome: ABORT,
      spent: 1,
    }),
    'returns undefined': () => ({
      options: { fetch: async () => {} },
      outcome: /fetch must be a function that returns a Response, received undefined/,
      spent: 1,
    }),
    'returns null': () => ({ options: { fetch: async () => null }, outcome: /received null/, spent: 1 }),
    'returns a string': () => ({ options: { fetch: async () => 'ok' }, outcome: /received "ok"/, spent: 1 }),
  },
  refusal: {
    throws: () => ({
      options: { refusal: fail, fetch: async () => endless() },
      outcome: BROKEN,
      spent: 1,
      discards: 1,
    }),
    rejects: () => ({
      options: { refusal: async () => fail(), fetch: async () => endless() },
      outcome: BROKEN,
      spent: 1,
      discards: 1,
    }),
    'settles late': (clock) => ({
      options: { refusal: () => delayValue(clock, false), fetch: async () => endless() },
      outcome: 200,
      spent: 1,
    }),
    'settles several times': () => ({
      options: { refusal: () => settleRepeatedly('resolve', false) },
      outcome: 200,
      spent: 1,
    }),
    'rejects, then resolves': () => ({
      options: { refusal: () => settleRepeatedly('reject', BROKEN), fetch: async () => endless() },
      outcome: BROKEN,
      spent: 1,
      discards: 1,
    }),
    'never settles, and the signal aborts': () => ({
      options: { refusal: never, fetch: async () => endless() },
      abortAt: 3,
      outcome: ABORT,
      spent: 1,
      discards: 1,
    }),
    'rejects after an abort': (clock) => ({
      options: { refusal: () => delayValue(clock, 0).then(fail), fetch: async () => endless() },
      abortAt: 3,
      outcome: ABORT,
      spent: 1,
      discards: 1,
    }),
    ...Object.fromEntries(
      [NaN, -1, Infinity, -Infinity].map((value) => [
        `returns ${value}`,
        (): Case => ({
          options: { refusal: () => value, fetch: async () => endless() },
          outcome: new RegExp(`${REFUSAL_MESSAGE}, received ${value}$`),
          spent: 1,
          discards: 1,
        }),
      ]),
    ),
    ...Object.fromEntries(
      Object.entries({ null: null, 'a string': 'yes', 'an object': {}, 'a bigint': 1n }).map(([name, value]) => [
        `returns ${name}`,
        (): Case => ({
          options: { refusal: () => value, fetch: async () => endless() },
          outcome: new RegExp(`${REFUSAL_MESSAGE}, received (null|"yes"|object|1n)$`),
          spent: 1,
          discards: 1,
        }),
      ]),
    ),
    'makes clones without reading them, then throws': () => ({
      options: {
        refusal: (response: Response) => (response.clone(), response.clone(), fail()),
        fetch: async () => endless(),
      },
      outcome: BROKEN,
      spent: 1,
      discards: 1,
    }),
    'reads the response itself': () => ({
      options: { refusal: async (response: Response) => (await response.text()) !== 'ok' },
      outcome: 200,
      spent: 1,
    }),
    'reads the response itself, and returns a wait': () => {
      let count = 0;
      return {
        options: { refusal: async (response: Response) => (await response.text()) === 'ok' && count++ === 0 && 2 },
        outcome: 200,
        spent: 1,
      };
    },
    'returns a wait for every response: the last one is returned': () => ({
      options: { refusal: () => 1, fetch: async () => endless(202) },
      outcome: 202,
      discards: 2,
    }),
  },
  signal: {
    'is a string': () => ({ init: () => ({ signal: 'now' as never }), outcome: 200, spent: 1 }),
    'throws at an access to `aborted`': () => ({
      init: () => ({ signal: signalWith({ aborted: { get: fail } }) }),
      outcome: BROKEN,
    }),
    'throws when a listener is added': () => ({
      init: () => ({ signal: signalWith({ addEventListener: { value: fail } }) }),
      outcome: BROKEN,
    }),
    'throws when a listener is removed': () => ({
      init: () => ({ signal: signalWith({ removeEventListener: { value: fail } }) }),
      outcome: 200,
      spent: 1,
    }),
    'aborts twice': () => {
      const controller = new AbortController();
      controller.signal.addEventListener('abort', () => controller.abort(new Error('second')));
      return {
        init: (signal) => ({ signal: AbortSignal.any([signal, controller.signal]) }),
        options: { fetch: never },
        abortAt: 3,
        outcome: ABORT,
        spent: 1,
      };
    },
    'aborts during a pause': () => ({
      options: { fetch: async () => endless(429, { 'retry-after': '5' }) },
      abortAt: 1,
      outcome: ABORT,
      discards: 1,
    }),
    'aborts during a delay': () => ({
      options: { fetch: async () => endless(503) },
      abortAt: 0.5,
      outcome: ABORT,
      discards: 1,
    }),
    'is aborted before the call': () => ({ init: () => ({ signal: AbortSignal.abort(ABORT) }), outcome: ABORT }),
  },
  response: {
    'has no header fields': () => ({
      options: { fetch: async () => ({ status: 429 }), retries: 0 },
      outcome: 429,
    }),
    'throws at an access to its status': () => ({
      options: { fetch: async () => Object.defineProperty(endless(), 'status', { get: fail }) },
      outcome: BROKEN,
      spent: 1,
      discards: 1,
    }),
    'throws at an access to a header field': () => ({
      options: { fetch: async () => Object.defineProperty(endless(429), 'headers', { value: { get: fail } }) },
      outcome: BROKEN,
      spent: 1,
      discards: 1,
    }),
    'has header fields of other types': () => ({
      options: { fetch: async () => ({ status: 429, headers: { get: () => ({}) } }), retries: 0 },
      outcome: 429,
    }),
    'throws at an access to its body': () => ({
      options: {
        fetch: async () => Object.defineProperty(endless(429, { 'retry-after': '1' }), 'body', { get: fail }),
        retries: 1,
      },
      outcome: 429,
    }),
    'is frozen': () => ({
      options: { fetch: async () => Object.freeze(endless()), refusal: () => false },
      outcome: 200,
      spent: 1,
    }),
    'has a body that cannot be cancelled': () => ({
      options: {
        fetch: async () => Object.defineProperty(endless(429), 'body', { value: { cancel: fail } }),
        retries: 1,
      },
      outcome: 429,
    }),
    'has a body that cannot be destroyed': () => ({
      options: { fetch: async () => Object.defineProperty(endless(429), 'body', { value: { on: fail } }), retries: 1 },
      outcome: 429,
    }),
    ...Object.fromEntries(
      [undefined, 'text', 5, {}, []].map((body) => [
        `has the body ${JSON.stringify(body)}, with hold: 'body'`,
        (): Case => ({
          options: { fetch: async () => ({ status: 200, headers: new Headers(), body }), hold: 'body' },
          outcome: 200,
          spent: 1,
        }),
      ]),
    ),
    "has a body that throws, with hold: 'body'": () => ({
      options: { fetch: async () => Object.defineProperty(endless(), 'body', { get: fail }), hold: 'body' },
      outcome: BROKEN,
      spent: 1,
    }),
    "has a body whose reader throws, with hold: 'body'": () => ({
      options: {
        fetch: async () => Object.defineProperty(endless(), 'body', { value: { getReader: fail, locked: false } }),
        hold: 'body',
      },
      outcome: BROKEN,
      spent: 1,
    }),
    "has a stream whose `on` throws, with hold: 'body'": () => ({
      options: { fetch: async () => ({ status: 200, headers: new Headers(), body: { on: fail } }), hold: 'body' },
      outcome: BROKEN,
      spent: 1,
    }),
  },
  clock: {
    'throws when a delay begins': () => ({
      options: { fetch: async () => endless(503), clock: { now: () => 0, schedule: fail } },
      outcome: BROKEN,
      discards: 1,
    }),
    'never fires a timer, and the signal aborts': () => ({
      options: { fetch: async () => endless(503), clock: { now: () => 0, schedule: () => () => {} } },
      abortAt: 3,
      outcome: ABORT,
      discards: 1,
    }),
    'fires a timer at once, and twice': () => {
      let count = 0;
      const schedule = (_: number, callback: () => void): (() => void) => (callback(), callback(), () => {});
      return {
        options: {
          fetch: async () => (count++ === 0 ? endless(503) : new Response('ok')),
          clock: { now: () => 0, schedule },
        },
        outcome: 200,
        spent: 1,
        discards: 1,
      };
    },
  },
};

const table = Object.entries(cases).flatMap(([input, faults]) =>
  Object.entries(faults).map(([fault, createCase]) => ({ input, fault, createCase })),
);

describe('faulty inputs', () => {
  test.each(table)(
    '$input $fault: nothing is left behind, and the next request is served (FAULTS 10)',
    async ({ input, createCase }) => {
      cancelled.mockClear();
      const clock = new ManualClock();
      const { options = {}, init, outcome, abortAt, discards = 0, spent = 0 } = createCase(clock);
      // At this rate no token is refilled during the test.
      const keyed = new KeyedThrottle(100, 1, 1e9, { clock });
      const plain = new Throttle(100, 1, 1e9, { clock });
      const controller = new AbortController();
      const added = vi.spyOn(controller.signal, 'addEventListener');
      const removed = vi.spyOn(controller.signal, 'removeEventListener');
      const settings = { fetch: async () => new Response('ok'), clock, ...options } as ThrottledFetchOptions;
      const limitedFetch = input === 'key' ? throttledFetch(keyed, settings) : throttledFetch(plain, settings);

      const response = limitedFetch(URL_A, init?.(controller.signal) ?? { signal: controller.signal });
      const settled = response.then(
        ({ status }) => status,
        (error: unknown) => error,
      );
      const nextTurn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
      const results: unknown[] = [];
      void settled.then((value) => results.push(value));
      for (let elapsed = 0; elapsed < 30 && results.length === 0; elapsed += 0.5) {
        if (elapsed === abortAt) controller.abort(ABORT);
        await nextTurn();
        await clock.advance(0.5);
        await nextTurn();
      }
      const [result] = results;
      if (outcome instanceof RegExp) expect((result as Error).message).toMatch(outcome);
      else if (outcome instanceof Error) expect(result).toBe(outcome);
      else expect(result).toBe(outcome);

      // Late results arrive.
      await clock.advance(10);
      await nextTurn();
      expect([plain.active, plain.waiting]).toEqual([0, 0]);
      expect(cancelled).toHaveBeenCalledTimes(discards);
      expect(removed).toHaveBeenCalledTimes(added.mock.calls.length);
      await clock.advance(60);
      expect(clock.pending).toBe(0);
      expect(plain.tokens).toBeCloseTo(100 - spent, 3);
      const gate = input === 'key' ? keyed : plain;
      expect(await (await throttledFetch(gate, { fetch: async () => new Response('served') })(URL_A)).text()).toBe(
        'served',
      );
    },
  );
});
