/** A `fetch` behind a gate: against an upstream of a few lines on a clock that stands still, and against a real server. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type AcquireOptions,
  type Gate,
  type KeyedGate,
  KeyedThrottle,
  type Permit,
  Throttle,
  ThrottleClosedError,
  type ThrottleOptions,
} from 'headgate';
import { type HeaderSource, readWait, throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Outcomes, setUp, take } from '../support/support.js';

const URL_A = 'https://a.example/items';
const random = vi.spyOn(Math, 'random');
const unhandled = vi.fn();
process.on('unhandledRejection', unhandled);

beforeEach(() => void random.mockReturnValue(0));
afterEach(async () => {
  await new Promise((resolve) => void setImmediate(resolve));
  expect(unhandled).not.toHaveBeenCalled();
  vi.unstubAllGlobals();
});

type Call = { at: number; input: string | URL | Request; init: RequestInit | undefined };
type Answer = Response | Error | Promise<Response> | ((call: Call) => Response | Promise<Response>);

/** Answers in turn, and `ok` from then on; it notes when it was asked for what. */
class Upstream {
  readonly calls: Call[] = [];
  readonly #clock: ManualClock;
  readonly #answers: Answer[];

  constructor(clock: ManualClock, ...answers: Answer[]) {
    this.#clock = clock;
    this.#answers = answers;
  }

  readonly fetch: typeof fetch = async (input: string | URL | Request, init?: RequestInit) => {
    const call = { at: this.#clock.now(), input, init };
    this.calls.push(call);
    const answer = this.#answers.shift() ?? new Response('ok');
    if (answer instanceof Error) throw answer;
    return typeof answer === 'function' ? answer(call) : answer;
  };

  get times(): number[] {
    return this.calls.map(({ at }) => at);
  }
}

const refusal = (headers: HeadersInit = {}, status = 429): Response => new Response('slow down', { status, headers });
const after = (seconds: number | string): Response => refusal({ 'Retry-After': String(seconds) });

/** An answer that comes when the test says so. */
const later = (): { promise: Promise<Response>; resolve: (response: Response) => void } => {
  let resolve!: (response: Response) => void;
  const promise = new Promise<Response>((settle) => (resolve = settle));
  return { promise, resolve };
};

interface Scene {
  clock: ManualClock;
  throttle: Throttle;
  upstream: Upstream;
  polite: typeof fetch;
}
const scene = (
  answers: Answer[],
  options: ThrottledFetchOptions = {},
  [capacity, concurrency]: [number, number] = [100, 0],
): Scene => {
  const { clock, throttle } = setUp(capacity, concurrency);
  const upstream = new Upstream(clock, ...answers);
  return { clock, throttle, upstream, polite: throttledFetch(throttle, { fetch: upstream.fetch, clock, ...options }) };
};
const expectNothingHeld = (throttle: Throttle): void => expect([throttle.active, throttle.waiting]).toEqual([0, 0]);

/** A throttle for each key, made when it is asked for. */
class ThrottleMap<K> implements KeyedGate<K> {
  readonly keyed = true;
  readonly throttles = new Map<K, Throttle>();
  readonly #options: ThrottleOptions;
  readonly #concurrency: number;

  constructor(options: ThrottleOptions, concurrency = 0) {
    this.#options = options;
    this.#concurrency = concurrency;
  }

  of(key: K): Throttle {
    const throttle = this.throttles.get(key) ?? new Throttle(100, this.#concurrency, 1, this.#options);
    this.throttles.set(key, throttle);
    return throttle;
  }

  acquire = (key: K, cost?: number, options?: AcquireOptions): Promise<Permit> => this.of(key).acquire(cost, options);
  tryAcquire = (key: K, cost?: number): Permit | undefined => this.of(key).tryAcquire(cost);
  run = <T>(key: K, fn: (permit: Permit) => T | PromiseLike<T>, cost?: number, options?: AcquireOptions): Promise<T> =>
    this.of(key).run(fn, cost, options);
  pause = (key: K, seconds?: number): void => this.of(key).pause(seconds);
  resume = (key: K): void => this.of(key).resume();
  close = (reason?: unknown): void => this.throttles.forEach((throttle) => throttle.close(reason));
}

describe('options', () => {
  const { throttle } = setUp();
  const keyed = new ThrottleMap<string>({});

  test.each<[unknown, unknown, string]>([
    [undefined, {}, 'gate must be a Gate or a KeyedGate, received undefined'],
    [{}, {}, 'gate must be a Gate or a KeyedGate, received object'],
    [throttle, null, 'options must be an object, received null'],
    [throttle, 5, 'options must be an object, received 5'],
    [throttle, { fetch: 'fetch' }, 'fetch must be a function, received "fetch"'],
    [throttle, { key: 'a' }, 'key must be undefined for a gate without keys, received "a"'],
    [throttle, { key: () => 'a' }, 'key must be undefined for a gate without keys, received function'],
    [throttle, { cost: -1 }, 'cost must be a finite number >= 0, received -1'],
    [throttle, { cost: '1' }, 'cost must be a finite number >= 0, received "1"'],
    [throttle, { retries: 1.5 }, 'retries must be an integer >= 0, received 1.5'],
    [throttle, { retries: -1 }, 'retries must be an integer >= 0, received -1'],
    [throttle, { retries: null }, 'retries must be an integer >= 0, received null'],
    [throttle, { statuses: 429 }, 'statuses must be an array, received 429'],
    [throttle, { statuses: ['429'] }, 'statuses must be integers from 100 to 999, received "429"'],
    [throttle, { statuses: [429, undefined] }, 'statuses must be integers from 100 to 999, received undefined'],
    [throttle, { statuses: [99] }, 'statuses must be integers from 100 to 999, received 99'],
    [throttle, { statuses: [1000] }, 'statuses must be integers from 100 to 999, received 1000'],
    [throttle, { statuses: [429.5] }, 'statuses must be integers from 100 to 999, received 429.5'],
    [throttle, { maxPause: 0 }, 'maxPause must be a number > 0, received 0'],
    [throttle, { maxPause: Number.NaN }, 'maxPause must be a number > 0, received NaN'],
    [throttle, { maxPause: '5' }, 'maxPause must be a number > 0, received "5"'],
    [throttle, { hold: 'both' }, 'hold must be "headers" or "body", received "both"'],
    [keyed, { hold: null }, 'hold must be "headers" or "body", received null'],
    [keyed, { refusal: true }, 'refusal must be a function, received true'],
    [throttle, { clock: null }, 'clock must be a Clock, received null'],
    [throttle, { clock: { now: () => 0 } }, 'clock must be a Clock, received object'],
  ])('%# are refused by name: %o', (gate, options, message) => {
    const create = (): unknown => throttledFetch(gate as Gate, options as ThrottledFetchOptions);
    expect(create).toThrow(message);
    expect(create).toThrow(
      message.endsWith('"') || /received (undefined|null|object|function|true)|must be an? (object|array)/.test(message)
        ? TypeError
        : RangeError,
    );
  });

  test('given as undefined keep their defaults', async () => {
    const { clock, throttle: own } = setUp();
    const upstream = new Upstream(clock, after(1), after(1), after(1));
    vi.stubGlobal('fetch', upstream.fetch);
    const none = {
      fetch: undefined,
      key: undefined,
      cost: undefined,
      retries: undefined,
      statuses: undefined,
      refusal: undefined,
      maxPause: undefined,
      hold: undefined,
      clock: undefined,
    };
    const response = throttledFetch(own, none)(URL_A);
    await clock.advance(60);
    expect([(await response).status, upstream.times, own.tokens]).toEqual([429, [0, 1, 2], 10]);
  });

  test('fetch is looked up when it is called, and called without a this', async () => {
    const polite = throttledFetch(setUp().throttle);
    const seen: unknown[] = [];
    for (const name of ['first', 'second']) {
      vi.stubGlobal('fetch', async function (this: unknown, ...args: unknown[]): Promise<Response> {
        seen.push(this, args);
        return new Response(name);
      });
      expect(await (await polite(URL_A)).text()).toBe(name);
    }
    const options: ThrottledFetchOptions = {
      async fetch(this: unknown) {
        seen.push(this);
        return new Response('own');
      },
    };
    expect(await (await throttledFetch(setUp().throttle, options)(URL_A)).text()).toBe('own');
    expect(seen).toEqual([undefined, [URL_A, undefined], undefined, [URL_A, undefined], undefined]);
  });

  test('a change to them afterwards changes nothing', async () => {
    const statuses = [429];
    const { clock, polite, upstream } = scene([after(1)], { statuses });
    statuses.pop();
    const response = polite(URL_A);
    await clock.advance(1);
    expect([(await response).status, upstream.calls.length]).toEqual([200, 2]);
  });
});

describe('a request', () => {
  test('goes through as it is, and so does its response', async () => {
    const answer = new Response('ok');
    const { polite, upstream, throttle } = scene([answer]);
    const init = { method: 'POST', body: 'x' };
    const input = new Request(URL_A);
    expect(await polite(input, init)).toBe(answer);
    expect(upstream.calls[0]!.input).toBe(input);
    expect(upstream.calls[0]!.init).toEqual(init);
    expectNothingHeld(throttle);
    expect(throttle.tokens).toBe(99);
  });

  test.each<[string, () => HeadersInit, (headers: HeadersInit) => void]>([
    ['a Headers', () => new Headers({ 'x-n': '0' }), (headers) => (headers as Headers).set('x-n', '1')],
    ['an object', () => ({ 'x-n': '0' }), (headers) => void ((headers as Record<string, string>)['x-n'] = '1')],
    ['a list', () => [['x-n', '0']], (headers) => void ((headers as string[][])[0] = ['x-n', '1'])],
  ])(
    'is the one that was asked for, whatever becomes of the URL, the init and its headers (%s) while it waits',
    async (_, make, change) => {
      const { clock } = setUp();
      const keyed = new KeyedThrottle(100, 0, 1, { clock });
      const upstream = new Upstream(clock);
      keyed.pause('https://a.example', 5);
      const url = new URL(URL_A);
      const headers = make();
      const init = { method: 'POST', headers };
      const response = throttledFetch(keyed, { fetch: upstream.fetch })(url, init);
      url.hostname = 'b.example';
      change(headers);
      init.method = 'DELETE';
      await clock.advance(5);
      await response;
      const [{ input, init: sent } = {}] = upstream.calls;
      expect([(input as URL).href, sent?.method, new Headers(sent?.headers).get('x-n')]).toEqual([URL_A, 'POST', '0']);
    },
  );

  test('whose refusal has a body that cannot be cancelled gives its slot back all the same', async () => {
    const odd = { status: 429, headers: new Headers(), body: {} } as unknown as Response;
    const { clock, polite, throttle } = scene([odd], {}, [100, 1]);
    const response = polite(URL_A);
    await clock.advance(1);
    expect((await response).status).toBe(200);
    expectNothingHeld(throttle);
  });

  test('with a relative URL is the affair of fetch, and costs as any other', async () => {
    const { polite, throttle } = scene([]);
    expect((await polite('/items')).status).toBe(200);
    expect(throttle.tokens).toBe(99);
  });

  test('keeps to the order of the calls and to both limits', async () => {
    const { clock, polite, upstream, throttle } = scene([], {}, [1, 1]);
    const outcomes = new Outcomes();
    for (const name of ['a', 'b', 'c']) outcomes.follow(name, polite(`https://a.example/${name}`));
    // The place in the queue is taken within the call.
    expect(throttle.waiting).toBe(2);
    await clock.advance(10);
    expect([outcomes.order, upstream.times]).toEqual([
      ['a', 'b', 'c'],
      [0, 1, 2],
    ]);
    expectNothingHeld(throttle);
  });

  test.each<[string, ThrottledFetchOptions['cost'], number]>([
    ['a number', 5, 5],
    ['nothing', 0, 0],
    [
      'a function of the arguments',
      (input, init) => (input as string).length + (init!.body as string).length,
      URL_A.length + 3,
    ],
  ])('costs %s', async (_, cost, expected) => {
    const { polite, throttle } = scene([], { cost });
    await polite(URL_A, { method: 'POST', body: 'abc' });
    expect(throttle.tokens).toBe(100 - expected);
  });

  test.each<[string, () => number]>([
    [
      'throws',
      () => {
        throw new RangeError('no price');
      },
    ],
    ['says what is no cost', () => Number.NaN],
  ])('whose cost function %s is rejected, not sent', async (_, cost) => {
    const { polite, throttle, upstream } = scene([], { cost });
    await expect(polite(URL_A)).rejects.toThrow(RangeError);
    expectNothingHeld(throttle);
    expect([throttle.tokens, upstream.calls.length]).toEqual([100, 0]);
  });

  test('that fails on the way: its error, the slot is free, the tokens are spent', async () => {
    const error = new TypeError('fetch failed');
    const { polite, throttle, upstream } = scene([error]);
    await expect(polite(URL_A)).rejects.toBe(error);
    expectNothingHeld(throttle);
    expect([throttle.tokens, upstream.calls.length]).toEqual([99, 1]);
  });

  test('that the gate refuses: its error', async () => {
    const { polite, throttle, upstream } = scene([]);
    throttle.close();
    await expect(polite(URL_A)).rejects.toBeInstanceOf(ThrottleClosedError);
    expect(upstream.calls).toEqual([]);
  });

  test.each<[string, unknown[]]>([
    ['a relative URL', ['/items']],
    ['no URL', ['http://']],
    ['nothing', []],
    ['null', [null]],
    ['credentials', ['https://user:password@a.example/']],
    ['a GET with a body', [URL_A, { body: 'x' }]],
    ['a signal that is none', [URL_A, { signal: 'now' }]],
    [
      'a used body',
      [Object.defineProperty(new Request(URL_A, { method: 'POST', body: 'x' }), 'bodyUsed', { value: true })],
    ],
  ])('that is invalid, by %s, is rejected as fetch rejects it, behind any gate', async (_, args) => {
    const call = args as Parameters<typeof fetch>;
    const used = args[0] instanceof Request ? args[0] : undefined;
    await used?.text();
    const expected = await fetch(...call).then(
      () => undefined,
      (error: Error) => error,
    );
    expect(expected).toBeInstanceOf(TypeError);
    const { throttle } = setUp();
    const keyed = new ThrottleMap<string>({});
    for (const polite of [throttledFetch(throttle), throttledFetch(keyed)]) {
      await expect(polite(...call)).rejects.toThrow(new TypeError(expected!.message));
    }
    expectNothingHeld(throttle);
    for (const own of keyed.throttles.values()) expectNothingHeld(own);
  });
});

describe('trap 28: a pause holds everything queued and to come, not just the call that failed [octokit/plugin-throttling#629]', () => {
  test('queued, running and to come', async () => {
    const slow = later();
    const { clock, throttle, polite, upstream } = scene([after(5), slow.promise], {}, [100, 2]);
    const outcomes = new Outcomes();
    for (const name of ['refused', 'running', 'queued']) outcomes.follow(name, polite(URL_A));
    await clock.advance(1);
    outcomes.follow('to come', polite(URL_A));
    expect(throttle.tryAcquire()).toBeUndefined();
    slow.resolve(new Response('ok'));
    await clock.advance(3.999);
    expect([outcomes.order, upstream.times]).toEqual([['running'], [0, 0]]);
    await clock.advance(0.001);
    expect([outcomes.order.toSorted(), upstream.times]).toEqual([
      ['queued', 'refused', 'running', 'to come'],
      [0, 0, 5, 5, 5],
    ]);
    expectNothingHeld(throttle);
    expect(throttle.tokens).toBeCloseTo(97);
  });

  test('the next in line does not slip through while the slot of the refused one comes free', async () => {
    const { clock, polite, upstream } = scene([after(5)], { retries: 0 }, [100, 1]);
    const both = [polite(URL_A), polite(URL_A)];
    await clock.advance(10);
    await Promise.all(both);
    expect(upstream.times).toEqual([0, 5]);
  });

  test.each<[string, ThrottledFetchOptions, Parameters<typeof fetch>]>([
    ['that is not sent again', { retries: 0 }, [URL_A]],
    [
      'whose body is a stream',
      {},
      [URL_A, { method: 'POST', body: new ReadableStream(), duplex: 'half' } as RequestInit],
    ],
  ])('also for a request %s', async (_, options, call) => {
    const answer = after(5);
    const { clock, throttle, polite, upstream } = scene([answer], options);
    expect(await polite(...call)).toBe(answer);
    expect(await answer.text()).toBe('slow down');
    expect(throttle.pausedFor).toBe(5);
    expectNothingHeld(throttle);
    void polite(URL_A);
    await clock.advance(10);
    expect(upstream.times).toEqual([0, 5]);
  });

  test('a burst of refusals pauses once: what comes late neither extends it nor doubles it', async () => {
    const late = Array.from({ length: 10 }, later);
    const { clock, throttle, polite, upstream } = scene(late.map(({ promise }) => promise));
    const pause = vi.spyOn(throttle, 'pause');
    const all = Promise.all(late.map(() => polite(URL_A)));
    for (const { resolve } of late) {
      await clock.advance(0.05);
      resolve(refusal());
    }
    await clock.advance(0);
    expect(pause.mock.calls).toEqual([[1]]);
    expect(throttle.pausedFor).toBeCloseTo(0.55);
    await clock.advance(1);
    await all;
    expect(upstream.times.slice(10).map((at) => at.toFixed(3))).toEqual(Array.from({ length: 10 }, () => '1.050'));
  });

  test('what comes late after the pause is over does not close the gate again', async () => {
    const late = later();
    const { clock, throttle, polite } = scene([refusal(), late.promise]);
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(30);
    late.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(0);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('what comes late from elsewhere through the same gate is a late one, too', async () => {
    const late = later();
    const { clock, throttle, polite } = scene([refusal(), late.promise]);
    const both = Promise.all([polite(URL_A), polite('https://b.example/')]);
    await clock.advance(0.5);
    late.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(0.5);
    await clock.advance(1);
    await both;
  });

  test('what was sent after the pause closes the gate again, for twice as long', async () => {
    const { clock, throttle, polite, upstream } = scene([refusal(), refusal(), refusal(), refusal(), refusal()]);
    const pause = vi.spyOn(throttle, 'pause');
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(60);
    expect((await both).map(({ status }) => status)).toEqual([429, 200]);
    expect([upstream.times, pause.mock.calls]).toEqual([
      [0, 0, 1, 1, 3, 3],
      [[1], [2], [4]],
    ]);
  });

  test('what was sent together with a request that went well is no late one', async () => {
    const slow = later();
    const { clock, throttle, polite } = scene([new Response('ok'), slow.promise]);
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(1);
    slow.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(1);
    await clock.advance(1);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('what was sent after the pause is no late one, though something from before ends meanwhile', async () => {
    const [slow, next] = [later(), later()];
    const { clock, throttle, polite } = scene([refusal(), slow.promise, next.promise]);
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(1);
    slow.resolve(new Response('ok'));
    await clock.advance(0);
    next.resolve(refusal());
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(2);
    await clock.advance(2);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('what comes late and says how long is believed', async () => {
    const late = later();
    const { clock, throttle, polite, upstream } = scene([after(2), late.promise]);
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(1);
    late.resolve(after(3));
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(3);
    await clock.advance(3);
    await both;
    expect(upstream.times).toEqual([0, 0, 4, 4]);
  });

  test('a shorter word never shortens a longer one', async () => {
    const { clock, throttle, polite, upstream } = scene([after(5), after(1)]);
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(5);
    await clock.advance(5);
    await both;
    expect(upstream.times).toEqual([0, 0, 5, 5]);
  });
});

describe('trap 29: how long the upstream says is how long it takes', () => {
  const WALL = Date.UTC(2026, 10, 21, 8);
  const date = (seconds: number): string => new Date(WALL + seconds * 1000).toUTCString();

  test.each<[string, HeadersInit, number]>([
    ['seconds', { 'Retry-After': '31' }, 31],
    ['a date', { 'Retry-After': date(45), Date: date(0) }, 45],
    ['a date, by a clock that is wrong', { 'Retry-After': date(99_045), Date: date(99_000) }, 45],
    ['a date, without a Date', { 'Retry-After': date(45) }, 45],
    ['RateLimit', { RateLimit: '"a";r=0;t=7' }, 7],
    ['X-RateLimit-Reset', { 'X-RateLimit-Reset': String(WALL / 1000 + 9) }, 9],
    ['the longest wait that maxPause allows', { 'Retry-After': '60' }, 60],
    ['RateLimit-Reset', { 'RateLimit-Reset': '12' }, 12],
    ['milliseconds (FAULTS 20, openai-node#1477)', { 'retry-after-ms': '6000' }, 6],
    ['an instant since 1970 (FAULTS 20, ky#618)', { 'Retry-After': String(WALL / 1000 + 25) }, 25],
    [
      'two Retry-After fields: the longer (FAULTS 40)',
      [
        ['Retry-After', '30'],
        ['Retry-After', date(45)],
      ],
      45,
    ],
    ['a date in the past: as nothing', { 'Retry-After': date(-45) }, 1],
    ['0: as nothing', { 'Retry-After': '0' }, 1],
    ['garbage: as nothing', { 'Retry-After': 'soon' }, 1],
    ['garbage, then another field', { 'Retry-After': 'soon', RateLimit: 'limit=1, remaining=0, reset=8' }, 8],
    ['nothing', {}, 1],
  ])('%s', async (_, headers, wait) => {
    vi.spyOn(Date, 'now').mockReturnValue(WALL);
    const { clock, polite, upstream } = scene([refusal(headers)]);
    const response = polite(URL_A);
    await clock.advance(wait - 0.001);
    expect(upstream.times).toEqual([0]);
    await clock.advance(0.001);
    expect([upstream.times, (await response).status]).toEqual([[0, wait], 200]);
    vi.mocked(Date.now).mockRestore();
  });

  test.each<[string, string, ThrottledFetchOptions, number]>([
    ['seconds', '61', {}, 60],
    ['more seconds than there are', '9'.repeat(400), {}, 60],
    ['the year 9999', 'Fri, 31 Dec 9999 23:59:59 GMT', {}, 60],
    ['seconds, with a bound of its own', '6', { maxPause: 5 }, 5],
  ])(
    'beyond maxPause, in %s: the refusal is returned, and the gate is paused for maxPause',
    async (_, wait, options, paused) => {
      random.mockReturnValue(0.999);
      const answer = after(wait);
      const { throttle, polite, upstream } = scene([answer], options);
      expect(await polite(URL_A)).toBe(answer);
      expect(await answer.text()).toBe('slow down');
      expect([throttle.pausedFor, upstream.calls.length]).toEqual([paused, 1]);
      expectNothingHeld(throttle);
    },
  );

  test('without a bound it waits for what nobody will see, in a number', async () => {
    random.mockReturnValue(0.999);
    const { clock, throttle, polite } = scene([after('9'.repeat(400))], { maxPause: Infinity });
    polite(URL_A).catch(() => {});
    await clock.advance(0);
    expect(throttle.pausedFor).toBeGreaterThan(9e11);
    expect(throttle.pausedFor).toBeLessThan(Infinity);
    throttle.close();
    await clock.advance(0);
  });

  test.each<[string, Response, number]>([
    ['what the upstream says', after(8), 8],
    ['its own', refusal(), 1],
  ])('up to a quarter is added to %s, never taken', async (_, answer, wait) => {
    for (const [drawn, factor] of [
      [0, 1],
      [0.4, 1.1],
      [0.999_999, 1.25],
    ] as const) {
      random.mockReturnValue(drawn);
      const { throttle, polite, clock } = scene([answer.clone()]);
      const response = polite(URL_A);
      await clock.advance(0);
      expect(throttle.pausedFor).toBeCloseTo(wait * factor, 4);
      await clock.advance(100);
      expect((await response).status).toBe(200);
    }
  });

  test('what is added stays within maxPause, and so does its own wait', async () => {
    random.mockReturnValue(0.999);
    const { clock, polite, upstream } = scene([after(9), refusal(), refusal(), refusal()], {
      maxPause: 10,
      retries: 9,
    });
    const response = polite(URL_A);
    await clock.advance(60);
    expect((await response).status).toBe(200);
    const waits = upstream.times.map((at, index) => at - (upstream.times[index - 1] ?? 0)).slice(1);
    expect(waits.map((wait) => wait.toFixed(1))).toEqual(['10.0', '2.5', '5.0', '10.0']);
    const short = scene([refusal()], { maxPause: 0.5 });
    const soon = short.polite(URL_A);
    await short.clock.advance(0.5);
    expect([(await soon).status, short.upstream.times]).toEqual([200, [0, 0.5]]);
  });
});

describe('a refused request', () => {
  test.each([
    [undefined, [0, 1, 3]],
    [0, [0]],
    [1, [0, 1]],
    [4, [0, 1, 3, 7, 15]],
  ])('is sent again %s times, each at its cost, then the last refusal is the response', async (retries, times) => {
    const answers = Array.from({ length: 9 }, (_, index) => new Response(`no ${index}`, { status: 503 }));
    const { clock, throttle, polite, upstream } = scene(answers, { retries, cost: 2 });
    const spent = vi.spyOn(throttle, 'acquire');
    const response = polite(URL_A);
    await clock.advance(1_000);
    const last = times.length - 1;
    expect(await response).toBe(answers[last]);
    expect(await answers[last]!.text()).toBe(`no ${last}`);
    expect(upstream.times).toEqual(times);
    expect(spent.mock.calls.map(([cost]) => cost)).toEqual(times.map(() => 2));
    expectNothingHeld(throttle);
    expect(clock.pending).toBe(0);
  });

  test('is sent again without an end with retries: Infinity', async () => {
    const { clock, polite, upstream } = scene(
      Array.from({ length: 50 }, () => after(1)),
      { retries: Infinity },
    );
    const response = polite(URL_A);
    await clock.advance(50);
    expect([(await response).status, upstream.calls.length]).toEqual([200, 51]);
  });

  test('has its body cancelled and its slot free while it waits', async () => {
    const cancelled = vi.fn();
    const body = new ReadableStream({ cancel: () => (cancelled(), Promise.reject(new Error('lost'))) });
    const { clock, throttle, polite } = scene([new Response(body, { status: 429 })], { hold: 'body' });
    const response = polite(URL_A);
    await clock.advance(0);
    expect(cancelled).toHaveBeenCalledOnce();
    expect([throttle.active, throttle.waiting, throttle.tokens]).toEqual([0, 1, 99]);
    await clock.advance(1);
    expect(await (await response).text()).toBe('ok');
  });

  test.each([
    [200, 1],
    [404, 1],
    [429, 1],
    [500, 1],
    [503, 1],
    [520, 2],
    [999, 2],
  ])('is one by its status: %d, where 520 and 999 are', async (status, calls) => {
    const answer = Object.defineProperty(new Response(''), 'status', { value: status });
    const { clock, polite, upstream } = scene([answer], { statuses: [520, 999] });
    const response = polite(URL_A);
    await clock.advance(5);
    await response;
    expect(upstream.calls).toHaveLength(calls);
  });

  test('queues behind the others', async () => {
    const { clock, polite } = scene([after(1)], {}, [100, 1]);
    const outcomes = new Outcomes();
    for (const name of ['refused', 'second', 'third']) outcomes.follow(name, polite(URL_A));
    await clock.advance(5);
    expect(outcomes.order).toEqual(['second', 'third', 'refused']);
  });

  test('is rejected with the error of a gate that closes meanwhile', async () => {
    const { clock, throttle, polite } = scene([after(5)]);
    const response = polite(URL_A);
    await clock.advance(1);
    throttle.close();
    await expect(response).rejects.toBeInstanceOf(ThrottleClosedError);
    expectNothingHeld(throttle);
  });

  const form = new FormData();
  form.set('a', '1');
  test.each<[string, () => unknown, boolean]>([
    ['a string', () => 'hello', true],
    ['an empty string', () => '', true],
    ['null', () => null, true],
    ['an ArrayBuffer', () => new ArrayBuffer(3), true],
    ['a Uint8Array', () => new Uint8Array(3), true],
    ['a DataView', () => new DataView(new ArrayBuffer(3)), true],
    ['a Blob', () => new Blob(['hello']), true],
    ['a FormData', () => form, true],
    ['a URLSearchParams', () => new URLSearchParams('a=1'), true],
    ['a stream', () => new ReadableStream(), false],
    [
      'an async iterable',
      async function* () {
        yield new Uint8Array(3);
      },
      false,
    ],
    ['an object of some library', () => ({ pipe: () => {} }), false],
  ])('with %s for a body: sent again, as it is? %$', async (_, make, again) => {
    const { clock, polite, upstream } = scene([after(1)]);
    const body = make();
    const response = polite(URL_A, { method: 'POST', body } as RequestInit);
    await clock.advance(1);
    expect((await response).status).toBe(again ? 200 : 429);
    expect(upstream.calls).toHaveLength(again ? 2 : 1);
    for (const { init } of upstream.calls) expect(init?.body).toBe(body);
  });

  /** Uses up the body, as a real fetch does. */
  const reading =
    (texts: string[], answer: () => Response): Answer =>
    async ({ input, init }) => {
      texts.push(await new Request(input, init).text());
      return answer();
    };

  test('with a Request that has a body: the same bytes each time, and the request given is used up', async () => {
    const texts: string[] = [];
    const refuse = reading(texts, () => after(1));
    const { clock, polite, upstream } = scene([refuse, refuse, refuse]);
    const request = new Request(URL_A, {
      method: 'POST',
      body: 'hello',
      headers: { 'x-a': '1' },
      referrer: '',
      referrerPolicy: 'origin',
    });
    const clone = vi.spyOn(Request.prototype, 'clone');
    const response = polite(request);
    await clock.advance(60);
    expect([(await response).status, texts]).toEqual([429, ['hello', 'hello', 'hello']]);
    expect(upstream.calls[0]!.input).toBe(request);
    expect(upstream.calls.map(({ input }) => (input as Request).headers.get('x-a'))).toEqual(['1', '1', '1']);
    for (const { input, init } of upstream.calls)
      expect({ ...init }).toEqual(
        input === request ? {} : { referrer: '', referrerPolicy: 'origin', signal: request.signal },
      );
    expect(request.bodyUsed).toBe(true);
    // None for the last one, which nothing follows.
    expect(clone).toHaveBeenCalledTimes(2);
    clone.mockRestore();
  });

  test('with a Request and a body beside it, or none at all: nothing is copied', async () => {
    const clone = vi.spyOn(Request.prototype, 'clone');
    const texts: string[] = [];
    const refuse = reading(texts, () => after(1));
    const { clock, polite } = scene([refuse, refuse, refuse, refuse]);
    const both = Promise.all([
      polite(new Request(URL_A, { method: 'POST', body: 'hello' }), { body: 'instead' }),
      polite(new Request(URL_A)),
    ]);
    await clock.advance(60);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
    expect(texts.toSorted()).toEqual(['', '', 'instead', 'instead']);
    expect(clone).not.toHaveBeenCalled();
    clone.mockRestore();
  });

  test('with a Request that has a body, and with init: both, each time', async () => {
    const texts: string[] = [];
    const { clock, polite, upstream } = scene([reading(texts, () => after(1))]);
    const init = { headers: { 'x-a': '1' }, referrer: 'https://a.example/' };
    const response = polite(new Request(URL_A, { method: 'POST', body: 'hello', referrerPolicy: 'origin' }), init);
    await clock.advance(1);
    expect([(await response).status, texts]).toEqual([200, ['hello']]);
    expect(upstream.calls[0]!.init).toEqual(init);
    expect(upstream.calls[1]!.init).toMatchObject({ ...init, referrerPolicy: 'origin' });
  });

  test('with a Request and retries: 0: nothing is copied', async () => {
    const clone = vi.spyOn(Request.prototype, 'clone');
    const { polite } = scene([after(1)], { retries: 0 });
    expect((await polite(new Request(URL_A, { method: 'POST', body: 'hello' }))).status).toBe(429);
    expect(clone).not.toHaveBeenCalled();
    clone.mockRestore();
  });
});

describe('an abort', () => {
  const calls: Record<string, (signal: AbortSignal) => Parameters<typeof fetch>> = {
    init: (signal) => [URL_A, { signal }],
    'a Request': (signal) => [new Request(URL_A, { signal })],
    'init, over that of a Request': (signal) => [
      new Request(URL_A, { signal: new AbortController().signal }),
      { signal },
    ],
  };

  describe.each(Object.entries(calls))('by the signal of %s', (_, make) => {
    test('while queued: it leaves the queue and spends nothing', async () => {
      const { clock, throttle, polite, upstream } = scene([], {}, [100, 1]);
      const holder = take(throttle);
      const stop = new AbortController();
      const outcomes = new Outcomes();
      outcomes.follow('aborted', polite(...make(stop.signal)));
      outcomes.follow('next', polite(URL_A));
      const reason = new Error('changed my mind');
      stop.abort(reason);
      expect(throttle.waiting).toBe(1);
      holder.release();
      await clock.advance(0);
      expect(outcomes.order.toSorted()).toEqual(['aborted!', 'next']);
      expect(outcomes.error('aborted')).toBe(reason);
      expect([upstream.calls.length, throttle.tokens]).toEqual([1, 98]);
      expectNothingHeld(throttle);
    });

    test('beforehand: nothing is taken', async () => {
      const { throttle, polite, upstream } = scene([]);
      const reason = new Error('changed my mind');
      await expect(polite(...make(AbortSignal.abort(reason)))).rejects.toBe(reason);
      expect([upstream.calls.length, throttle.tokens]).toEqual([0, 100]);
      expectNothingHeld(throttle);
    });

    test('trap 33: after the grant, before it is sent: it is not sent, and refunded', async () => {
      const { clock, throttle, polite, upstream } = scene([], { cost: 7 });
      const stop = new AbortController();
      const response = polite(...make(stop.signal));
      expect(throttle.active).toBe(1);
      const reason = new Error('changed my mind');
      stop.abort(reason);
      await expect(response).rejects.toBe(reason);
      await clock.advance(0);
      expect([upstream.calls.length, throttle.tokens]).toEqual([0, 100]);
      expectNothingHeld(throttle);
    });

    test('while it waits to be sent again', async () => {
      const { clock, throttle, polite, upstream } = scene([after(5)]);
      const stop = new AbortController();
      const response = polite(...make(stop.signal));
      await clock.advance(1);
      const reason = new Error('changed my mind');
      stop.abort(reason);
      await expect(response).rejects.toBe(reason);
      expect([upstream.calls.length, clock.pending]).toEqual([1, 0]);
      expectNothingHeld(throttle);
    });
  });

  test('by the signal of a Request, where init says null: none', async () => {
    const { polite, throttle } = scene([]);
    const response = await polite(new Request(URL_A, { signal: AbortSignal.abort() }), { signal: null });
    expect(response.status).toBe(200);
    expectNothingHeld(throttle);
  });
});

describe('readWait', () => {
  test('measures instants by Date.now() where the server sends no Date', () => {
    const inAMinute = Math.ceil(Date.now() / 1000) + 60;
    expect(readWait({ 'Retry-After': String(inAMinute) })).toBeGreaterThan(50);
    expect(readWait({ 'Retry-After': String(inAMinute) }, (inAMinute - 5) * 1000)).toBe(5);
  });

  test.each<[unknown[], string, ErrorConstructor]>([
    [[], 'headers must be an object, received undefined', TypeError],
    [[null], 'headers must be an object, received null', TypeError],
    [['30'], 'headers must be an object, received "30"', TypeError],
    [[{}, NaN], 'nowMs must be a finite number, received NaN', RangeError],
    [[{}, new Date()], 'nowMs must be a finite number, received object', TypeError],
  ])('%o: %s', (args, message, Kind) => {
    const read = (): unknown => readWait(...(args as [HeaderSource]));
    expect(read).toThrow(new Kind(message));
  });
});

describe("hold: 'body'", () => {
  type Controller = ReadableStreamDefaultController<Uint8Array>;
  test.each<[string, (response: Response, controller: Controller) => unknown]>([
    [
      'read',
      (response, controller) => {
        controller.close();
        return response.text();
      },
    ],
    ['cancelled', (response) => response.body!.cancel()],
    ['broken off', (_, controller) => controller.error(new Error('lost'))],
  ])('keeps the slot until the body is %s', async (_, end) => {
    let controller!: Controller;
    const answer = new Response(new ReadableStream({ start: (own) => void (controller = own) }));
    const { clock, throttle, polite } = scene([answer], { hold: 'body' }, [100, 1]);
    const response = await polite(URL_A);
    const next = polite(URL_A);
    await clock.advance(10);
    expect([throttle.active, throttle.waiting]).toEqual([1, 1]);
    await end(response, controller);
    expect(await (await next).text()).toBe('ok');
    expectNothingHeld(throttle);
  });

  test('keeps no slot for a response without a body', async () => {
    const { throttle, polite } = scene([new Response(null, { status: 204 })], { hold: 'body' });
    expect((await polite(URL_A)).status).toBe(204);
    expectNothingHeld(throttle);
  });

  test('keeps it for a refusal that is returned, too', async () => {
    const { throttle, polite } = scene([after(1)], { hold: 'body', retries: 0 });
    const response = await polite(URL_A);
    expect(throttle.active).toBe(1);
    expect(await response.text()).toBe('slow down');
    expectNothingHeld(throttle);
  });

  test('is not the default', async () => {
    const { throttle, polite } = scene([new Response(new ReadableStream())]);
    await polite(URL_A);
    expectNothingHeld(throttle);
  });
});

describe('a gate that answers by promises', () => {
  /** As a gate beyond a network would be: each answer takes a while, and may be an error. */
  const remote = (clock: ManualClock, throttle: Throttle, failure?: Error): Gate => {
    const trip = async <T>(answer: () => T): Promise<T> => {
      await new Promise<void>((resolve) => void clock.schedule(0.1, resolve));
      return answer();
    };
    return {
      acquire: (...args) => throttle.acquire(...args),
      tryAcquire: (...args) => trip(() => throttle.tryAcquire(...args)),
      run: (...args) => throttle.run(...args),
      pause: (seconds) =>
        trip(() => {
          if (failure) throw failure;
          throttle.pause(seconds);
        }),
      resume: () => trip(() => throttle.resume()),
      close: () => trip(() => throttle.close()),
    };
  };

  test('is paused before the slot is free and before the request queues again', async () => {
    const { clock, throttle } = setUp(100, 1);
    const upstream = new Upstream(clock, after(5));
    const polite = throttledFetch(remote(clock, throttle), { fetch: upstream.fetch });
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(0.05);
    expect(throttle.active).toBe(1);
    await clock.advance(6);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
    expect(upstream.times).toEqual([0, 5.1, 5.1]);
    expectNothingHeld(throttle);
  });

  test('trap 33: and fails is no upstream that refuses: its error, nothing is sent, nothing is tried again [firecrawl#3728]', async () => {
    const { clock, throttle } = setUp(100, 1);
    const upstream = new Upstream(clock);
    const failure = Object.assign(new Error('connection lost'), { status: 429 });
    const acquire = vi.fn(() => Promise.reject(failure));
    const gate: Gate = { ...remote(clock, throttle), acquire };
    await expect(throttledFetch(gate, { fetch: upstream.fetch })(URL_A)).rejects.toBe(failure);
    expect([acquire.mock.calls.length, upstream.calls.length]).toEqual([1, 0]);
  });

  test.each([0, 2])(
    'trap 33: and cannot be paused: its error, the slot is free, the response is discarded (retries: %d)',
    async (retries) => {
      const { clock, throttle } = setUp(100, 1);
      const cancelled = vi.fn();
      const upstream = new Upstream(clock, new Response(new ReadableStream({ cancel: cancelled }), { status: 429 }));
      const failure = new Error('connection lost');
      const response = throttledFetch(remote(clock, throttle, failure), { fetch: upstream.fetch, retries })(URL_A);
      const outcome = expect(response).rejects.toBe(failure);
      await clock.advance(1);
      await outcome;
      expect(cancelled).toHaveBeenCalledOnce();
      expectNothingHeld(throttle);
    },
  );
});

describe('a keyed gate', () => {
  const keyedScene = (
    answers: Answer[],
    options: ThrottledFetchOptions = {},
  ): Omit<Scene, 'throttle'> & { gate: ThrottleMap<string> } => {
    const clock = new ManualClock();
    const gate = new ThrottleMap<string>({ clock });
    const upstream = new Upstream(clock, ...answers);
    return { clock, gate, upstream, polite: throttledFetch(gate, { fetch: upstream.fetch, clock, ...options }) };
  };

  test('can be a KeyedThrottle', async () => {
    const clock = new ManualClock();
    const gate = new KeyedThrottle(100, 1, 1, { clock });
    const upstream = new Upstream(clock, after(5));
    const polite = throttledFetch(gate, { fetch: upstream.fetch });
    const all = Promise.all([polite(URL_A), polite(URL_A), polite('https://b.example/')]);
    await clock.advance(5);
    expect((await all).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(upstream.times).toEqual([0, 0, 5, 5]);
  });

  test('has the origin of the URL for a key', async () => {
    const { gate, polite } = keyedScene([]);
    await polite('https://a.example/x?y#z');
    await polite(new URL('https://A.example:443/other'));
    await polite(new Request('https://b.example/x', { method: 'POST', body: 'x' }));
    await polite('http://b.example:8080');
    expect([...gate.throttles.keys()]).toEqual(['https://a.example', 'https://b.example', 'http://b.example:8080']);
    expect(gate.of('https://a.example').tokens).toBe(98);
  });

  test('resolves a relative URL by the location, where there is one', async () => {
    const { gate, polite, upstream } = keyedScene([]);
    vi.stubGlobal('location', new URL('https://page.example/a/b'));
    await polite('/items');
    await polite('items');
    expect([...gate.throttles.keys()]).toEqual(['https://page.example']);
    expect(upstream.calls.map(({ input }) => input)).toEqual(['/items', 'items']);
  });

  test('leaves a URL without an origin to fetch, and takes no permit', async () => {
    const error = new TypeError('what is this?');
    const { gate, polite, upstream } = keyedScene([error]);
    const init = {};
    await expect(polite('/items', init)).rejects.toBe(error);
    expect([upstream.calls[0]!.input, gate.throttles.size]).toEqual(['/items', 0]);
    expect(upstream.calls[0]!.init).toBe(init);
  });

  test('takes a key of its own, or a function of the arguments', async () => {
    const constant = keyedScene([], { key: 'github' });
    await constant.polite('/items');
    expect([...constant.gate.throttles.keys()]).toEqual(['github']);
    const chosen = keyedScene([], { key: (input, init) => `${init?.method} ${input as string}` });
    await chosen.polite('/items', { method: 'POST' });
    expect([...chosen.gate.throttles.keys()]).toEqual(['POST /items']);
  });

  test.each<[string, () => string, string]>([
    [
      'throws',
      () => {
        throw new Error('who?');
      },
      'who?',
    ],
    ['knows none', () => undefined as unknown as string, 'key must be a key, received undefined'],
  ])('whose key function %s: rejected, not sent', async (_, key, message) => {
    const { gate, polite, upstream } = keyedScene([], { key });
    await expect(polite(URL_A)).rejects.toThrow(message);
    expect([gate.throttles.size, upstream.calls.length]).toEqual([0, 0]);
  });

  test('pauses only the key', async () => {
    const { clock, gate, polite, upstream } = keyedScene([after(5)]);
    const a = polite(URL_A);
    await clock.advance(1);
    expect((await polite('https://b.example/')).status).toBe(200);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([4, 0]);
    await clock.advance(4);
    expect([(await a).status, upstream.times]).toEqual([200, [0, 1, 5]]);
  });

  test('tells a late refusal by the pauses of its own key', async () => {
    const [first, second] = [later(), later()];
    const { clock, gate, polite } = keyedScene([first.promise, second.promise]);
    const both = Promise.all([polite(URL_A), polite('https://b.example/')]);
    await clock.advance(1);
    first.resolve(refusal());
    await clock.advance(0.5);
    second.resolve(refusal());
    await clock.advance(0);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([0.5, 1]);
    await clock.advance(2);
    await both;
  });

  test('whose keys are no strings needs a key, of its type', async () => {
    const clock = new ManualClock();
    const gate = new ThrottleMap<number>({ clock });
    const { fetch } = new Upstream(clock);
    // @ts-expect-error An origin is no number.
    throttledFetch(gate, { fetch });
    // @ts-expect-error Nor is this.
    throttledFetch(gate, { fetch, key: () => 'a' });
    const polite: typeof globalThis.fetch = throttledFetch(gate, {
      fetch,
      key: (input, init) => (input as string).length + (init ? 1 : 0),
    });
    await polite(URL_A);
    await throttledFetch(gate, { fetch, key: 5 })(URL_A);
    expect([...gate.throttles.keys()]).toEqual([URL_A.length, 5]);
    const either = gate as unknown as Gate | KeyedGate;
    await throttledFetch(either, { fetch, cost: 0 })(URL_A);
    expect(gate.throttles.size).toBe(3);
  });

  test('keeps no key once nothing is under way', async () => {
    const { clock, throttle } = setUp();
    const upstream = new Upstream(clock, new Response('ok'), after(1), new Error('lost'));
    const gate: KeyedGate<object> = {
      keyed: true,
      acquire: (_, cost, options) => throttle.acquire(cost, options),
      tryAcquire: (_, cost) => throttle.tryAcquire(cost),
      run: (_, fn, cost, options) => throttle.run(fn, cost, options),
      pause: (_, seconds) => throttle.pause(seconds),
      resume: () => throttle.resume(),
      close: (reason) => throttle.close(reason),
    };
    const kept: WeakRef<object>[] = [];
    const polite = throttledFetch(gate, {
      fetch: upstream.fetch,
      key: () => {
        const key = {};
        kept.push(new WeakRef(key));
        return key;
      },
    });
    const all = Promise.allSettled([polite(URL_A), polite(URL_A), polite(URL_A)]);
    await clock.advance(5);
    expect((await all).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected']);
    await vi.waitFor(() => {
      globalThis.gc!();
      expect(kept.map((reference) => reference.deref())).toEqual([undefined, undefined, undefined]);
    });
    void polite;
  });
});

describe('a refusal without a stated wait', () => {
  const LEFT = { 'x-ratelimit-limit': '5000', 'x-ratelimit-remaining': '4990' };

  test('a 503 with quota left does not wait for the reset (FAULTS 19, octokit/plugin-throttling#566)', async () => {
    const WALL = Date.UTC(2026, 10, 21, 8);
    vi.spyOn(Date, 'now').mockReturnValue(WALL);
    const { clock, throttle, polite, upstream } = scene([
      refusal({ ...LEFT, 'x-ratelimit-reset': String(WALL / 1000 + 200) }, 503),
    ]);
    const response = polite(URL_A);
    await clock.advance(0);
    vi.mocked(Date.now).mockRestore();
    expect(throttle.pausedFor).toBe(0);
    await clock.advance(1);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 1]]);
  });

  test.each([500, 502, 503, 504, 529])(
    'a %d delays only the request itself, and pauses nobody else (FAULTS 39)',
    async (status) => {
      const answers = [refusal({}, status), new Response('ok'), refusal({}, status)];
      const { clock, throttle, polite, upstream } = scene(answers, { statuses: [status] }, [100, 1]);
      const pause = vi.spyOn(throttle, 'pause');
      const outcomes = new Outcomes();
      outcomes.follow('refused', polite(URL_A));
      outcomes.follow('queued', polite(URL_A));
      await clock.advance(0);
      expect([outcomes.order, throttle.active, throttle.waiting]).toEqual([['queued'], 0, 0]);
      await clock.advance(0.999);
      expect(upstream.times).toEqual([0, 0]);
      await clock.advance(60);
      expect([outcomes.order, upstream.times]).toEqual([
        ['queued', 'refused'],
        [0, 0, 1, 3],
      ]);
      expect(pause).not.toHaveBeenCalled();
      expectNothingHeld(throttle);
      expect(clock.pending).toBe(0);
    },
  );

  test('a 503 with a stated wait pauses the gate, for maxPause at most', async () => {
    const { throttle, polite } = scene([refusal({ 'Retry-After': '86400' }, 503)]);
    expect((await polite(URL_A)).status).toBe(503);
    expect(throttle.pausedFor).toBe(60);
  });

  test('one origin that asks for a day stops all for 60 s behind a plain gate, and itself for 300 s behind a keyed gate (FAULTS 39)', async () => {
    const { clock, throttle } = setUp();
    const gate = new ThrottleMap<string>({ clock });
    const upstream = new Upstream(clock, after(86_400), after(86_400));
    expect((await throttledFetch(throttle, { fetch: upstream.fetch })(URL_A)).status).toBe(429);
    expect((await throttledFetch(gate, { fetch: upstream.fetch })(URL_A)).status).toBe(429);
    expect([
      throttle.pausedFor,
      gate.of('https://a.example').pausedFor,
      gate.of('https://b.example').pausedFor,
    ]).toEqual([60, 300, 0]);
  });

  test('a 529 is a refusal by default (FAULTS 21)', async () => {
    const { clock, polite, upstream } = scene([refusal({}, 529)]);
    const response = polite(URL_A);
    await clock.advance(1);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 1]]);
  });

  test('the random part of a delay is added, never taken, and stays within maxPause', async () => {
    random.mockReturnValue(0.4);
    const { clock, polite, upstream } = scene(
      Array.from({ length: 3 }, () => refusal({}, 503)),
      { retries: 3, maxPause: 2 },
    );
    const response = polite(URL_A);
    await clock.advance(60);
    expect([(await response).status, upstream.times.map((at) => at.toFixed(2))]).toEqual([
      200,
      ['0.00', '1.10', '3.10', '5.10'],
    ]);
  });

  test('an abort ends the delay at once, without a timer or a listener left behind', async () => {
    const { clock, throttle, polite, upstream } = scene([refusal({}, 503)]);
    const stop = new AbortController();
    const removed = vi.spyOn(stop.signal, 'removeEventListener');
    const added = vi.spyOn(stop.signal, 'addEventListener');
    const response = polite(URL_A, { signal: stop.signal });
    await clock.advance(0.5);
    expect(clock.pending).toBe(1);
    const reason = new Error('changed my mind');
    stop.abort(reason);
    await expect(response).rejects.toBe(reason);
    expect([upstream.calls.length, clock.pending, removed.mock.calls.length]).toEqual([1, 0, added.mock.calls.length]);
    expectNothingHeld(throttle);
  });
});

describe('refusal', () => {
  const WALL = Date.UTC(2026, 10, 21, 8);
  /** As README has it. */
  const github: ThrottledFetchOptions['refusal'] = ({ status, headers }) =>
    status === 403 ? headers.has('retry-after') || headers.get('x-ratelimit-remaining') === '0' : undefined;
  beforeEach(() => void vi.spyOn(Date, 'now').mockReturnValue(WALL));
  afterEach(() => vi.mocked(Date.now).mockRestore());

  test.each<[string, Response, ThrottledFetchOptions, number | undefined]>([
    ['a plain 403 is none by default', refusal({}, 403), {}, undefined],
    [
      'a 403 of GitHub that is a missing permission',
      refusal({ 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': String(WALL / 1000 + 30) }, 403),
      { refusal: github },
      undefined,
    ],
    [
      'a 403 of GitHub, the primary limit',
      refusal({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(WALL / 1000 + 30) }, 403),
      { refusal: github },
      30,
    ],
    [
      'a 403 of GitHub, a secondary limit',
      refusal({ 'x-ratelimit-remaining': '4990', 'retry-after': '20' }, 403),
      { refusal: github },
      20,
    ],
    ['a 429 where it returns undefined: statuses decides', after(10), { refusal: github }, 10],
    ['a 429 where it returns false', after(10), { refusal: () => false }, undefined],
    ['true without a stated wait: the backoff', refusal({}, 403), { refusal: ({ status }) => status === 403 }, 1],
    [
      'a number: that many seconds, over the header fields',
      after(10),
      { refusal: ({ status }) => (status === 429 ? 2.5 : undefined) },
      2.5,
    ],
    ['0: at once', after(10), { refusal: ({ status }) => (status === 429 ? 0 : undefined) }, 0],
    ['a promise', refusal({}, 403), { refusal: async ({ status }) => (status === 403 ? 3 : false) }, 3],
    [
      "Google's 403 with rateLimitExceeded in the body",
      Response.json({ error: { errors: [{ reason: 'rateLimitExceeded' }] } }, { status: 403 }),
      {
        refusal: async (response) =>
          response.status === 403 ? (await response.clone().text()).includes('ateLimitExceeded') : undefined,
      },
      1,
    ],
    [
      'a 200 with an error inside (Shopify-api-node#489)',
      Response.json({
        errors: [{ message: 'Throttled' }],
        extensions: { cost: { requestedQueryCost: 150, throttleStatus: { currentlyAvailable: 50, restoreRate: 50 } } },
      }),
      {
        async refusal(response) {
          const { errors, extensions } = (await response
            .clone()
            .json()
            .catch(() => ({}))) as {
            errors?: { message: string }[];
            extensions?: {
              cost: { requestedQueryCost: number; throttleStatus: { currentlyAvailable: number; restoreRate: number } };
            };
          };
          if (errors?.[0]?.message !== 'Throttled' || !extensions) return undefined;
          const { requestedQueryCost, throttleStatus } = extensions.cost;
          return (requestedQueryCost - throttleStatus.currentlyAvailable) / throttleStatus.restoreRate;
        },
      },
      2,
    ],
  ])('%s (FAULTS 21)', async (_, answer, options, wait) => {
    const status = answer.status;
    const { clock, throttle, polite, upstream } = scene([answer], options);
    const response = polite(URL_A);
    // Reading a clone takes turns of the loop.
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => void setImmediate(resolve));
    expect(throttle.pausedFor).toBe(wait ?? 0);
    await clock.advance(100);
    const { status: last } = await response;
    expect([last, upstream.times]).toEqual(wait === undefined ? [status, [0]] : [200, [0, wait]]);
    expectNothingHeld(throttle);
  });

  test('the body that is returned is whole though a clone of it was read', async () => {
    const { polite, throttle } = scene([new Response('a page')], {
      hold: 'body',
      refusal: async (response) => (await response.clone().text()) === 'slow down',
    });
    const response = await polite(URL_A);
    expect(throttle.active).toBe(1);
    expect(await response.text()).toBe('a page');
    expectNothingHeld(throttle);
  });

  test.each<[string, Parameters<typeof fetch>, [string, string, string | null]]>([
    [
      'a string',
      ['https://a.example/x', { method: 'post', body: 'x', headers: { 'x-a': '1' } }],
      ['https://a.example/x', 'POST', '1'],
    ],
    ['a URL', [new URL('https://a.example/x')], ['https://a.example/x', 'GET', null]],
    [
      'a Request',
      [new Request('https://a.example/x', { method: 'PUT', body: 'x', headers: { 'x-a': '2' } })],
      ['https://a.example/x', 'PUT', '2'],
    ],
    [
      'a Request and init',
      [new Request('https://a.example/x', { headers: { 'x-a': '2' } }), { method: 'PATCH', headers: { 'x-a': '3' } }],
      ['https://a.example/x', 'PATCH', '3'],
    ],
  ])('it gets the request that was sent: %s', async (_, call, expected) => {
    const seen: unknown[] = [];
    const { polite } = scene([], {
      refusal: (_response, { url, method, headers }) => {
        seen.push([url, method, headers.get('x-a')]);
        return undefined;
      },
    });
    await polite(...call);
    expect(seen).toEqual([expected]);
  });

  test('the slot stays taken until it has answered, so the next waiter does not slip through', async () => {
    const { clock, throttle, polite, upstream } = scene(
      [new Response('busy'), new Response('ok')],
      {
        async refusal(response) {
          await new Promise<void>((resolve) => void clock.schedule(1, resolve));
          return (await response.clone().text()) === 'busy' ? 5 : false;
        },
      },
      [100, 1],
    );
    const both = Promise.all([polite(URL_A), polite(URL_A)]);
    await clock.advance(0.5);
    expect([throttle.active, throttle.waiting]).toEqual([1, 1]);
    await vi.waitFor(async () => {
      await clock.advance(1);
      expect(upstream.calls).toHaveLength(3);
    });
    await vi.waitFor(async () => {
      await clock.advance(1);
      expectNothingHeld(throttle);
    });
    await both;
    expect(upstream.times[1]! - upstream.times[0]!).toBeGreaterThanOrEqual(5);
  });
});

describe('a redirect', () => {
  const redirected = (response: Response, url: string): Response =>
    Object.defineProperties(response, { redirected: { value: true }, url: { value: url } });
  const B = 'https://b.example/there';
  const setUpKeyed = (
    answers: Answer[],
    options: ThrottledFetchOptions = {},
    concurrency = 0,
  ): { clock: ManualClock; gate: ThrottleMap<string>; upstream: Upstream; polite: typeof fetch } => {
    const clock = new ManualClock();
    const gate = new ThrottleMap<string>({ clock }, concurrency);
    const upstream = new Upstream(clock, ...answers);
    return { clock, gate, upstream, polite: throttledFetch(gate, { fetch: upstream.fetch, clock, ...options }) };
  };

  test('pauses the origin that refused, and the retry waits for that origin (FAULTS 38)', async () => {
    const { clock, gate, upstream, polite } = setUpKeyed([redirected(after(20), B)]);
    const response = polite(URL_A);
    await clock.advance(0);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([0, 20]);
    // The origin that redirected serves its other URLs meanwhile.
    await clock.advance(5);
    expect((await polite('https://a.example/other')).status).toBe(200);
    await clock.advance(14.999);
    expect(upstream.times).toEqual([0, 5]);
    await clock.advance(0.001);
    expect([(await response).status, upstream.times]).toEqual([200, [0, 5, 20]]);
    expect([...gate.throttles.values()].map(({ active, waiting }) => active + waiting)).toEqual([0, 0]);
  });

  test('a wait beyond maxPause is not the redirecting origin’s (FAULTS 38)', async () => {
    const { gate, polite } = setUpKeyed([redirected(after(86_400), B)]);
    expect((await polite(URL_A)).status).toBe(429);
    expect([gate.of('https://a.example').pausedFor, gate.of('https://b.example').pausedFor]).toEqual([0, 300]);
  });

  test('the retry holds no slot of either origin while it waits', async () => {
    const { clock, gate, polite } = setUpKeyed([redirected(after(20), B)], {}, 1);
    const response = polite(URL_A);
    await clock.advance(10);
    expect([
      gate.of('https://a.example').active,
      gate.of('https://b.example').active,
      gate.of('https://b.example').waiting,
    ]).toEqual([0, 0, 1]);
    await clock.advance(10);
    expect((await response).status).toBe(200);
  });

  test('two origins that redirect to each other do not wait for each other', async () => {
    const { clock, polite } = setUpKeyed(
      [redirected(after(2), B), redirected(after(2), URL_A), new Response('ok'), new Response('ok')],
      {},
      1,
    );
    const both = Promise.all([polite(URL_A), polite(B)]);
    await clock.advance(10);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('late refusals after a redirect are late for the origin that refused', async () => {
    const [first, second] = [later(), later()];
    const { clock, gate, polite, upstream } = setUpKeyed([first.promise, second.promise]);
    const both = Promise.all([polite(URL_A), polite('https://c.example/')]);
    await clock.advance(1);
    first.resolve(redirected(refusal(), B));
    await clock.advance(0.5);
    second.resolve(redirected(refusal(), B));
    await clock.advance(0);
    expect(gate.of('https://b.example').pausedFor).toBe(0.5);
    await clock.advance(0.5);
    expect((await both).map(({ status }) => status)).toEqual([200, 200]);
    expect(upstream.times).toEqual([0, 0, 2, 2]);
  });

  test('an abort while the retry waits for the other origin spends nothing', async () => {
    const { clock, gate, polite } = setUpKeyed([redirected(after(20), B)]);
    const stop = new AbortController();
    const response = polite(URL_A, { signal: stop.signal });
    await clock.advance(1);
    const reason = new Error('changed my mind');
    stop.abort(reason);
    await expect(response).rejects.toBe(reason);
    await clock.advance(30);
    expect([gate.of('https://b.example').tokens, gate.of('https://b.example').waiting]).toEqual([100, 0]);
  });

  test('a turn at the other origin is refunded where the request is not sent', async () => {
    const { clock, gate, polite } = setUpKeyed([redirected(after(20), B)]);
    const response = polite(URL_A);
    await clock.advance(1);
    gate.of('https://a.example').close();
    const outcome = expect(response).rejects.toBeInstanceOf(ThrottleClosedError);
    await clock.advance(19);
    await outcome;
    expect([gate.of('https://b.example').tokens, gate.of('https://b.example').active]).toEqual([100, 0]);
  });

  test.each<[string, ThrottledFetchOptions, string]>([
    ['a fixed key', { key: 'upstream' }, 'upstream'],
    ['a key function', { key: (input) => new URL(input as string).pathname }, '/items'],
  ])('%s stays the key after a redirect', async (_, options, key) => {
    const { clock, gate, polite } = setUpKeyed([redirected(after(20), B)], options);
    const response = polite(URL_A);
    await clock.advance(0);
    expect([[...gate.throttles.keys()], gate.of(key).pausedFor]).toEqual([[key], 20]);
    await clock.advance(20);
    expect((await response).status).toBe(200);
  });

  test.each<[string, Response]>([
    ['within an origin', redirected(after(5), 'https://a.example/there')],
    ['to a URL that is none', redirected(after(5), '')],
    ['that was not followed', Object.defineProperty(after(5), 'url', { value: B })],
  ])('%s leaves the key as it is', async (_, answer) => {
    const { clock, gate, polite } = setUpKeyed([answer]);
    const response = polite(URL_A);
    await clock.advance(0);
    expect([[...gate.throttles.keys()], gate.of('https://a.example').pausedFor]).toEqual([['https://a.example'], 5]);
    await clock.advance(5);
    expect((await response).status).toBe(200);
  });

  test('behind a gate without keys pauses that gate', async () => {
    const { clock, throttle, polite } = scene([redirected(after(5), B)]);
    const response = polite(URL_A);
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(5);
    await clock.advance(5);
    expect((await response).status).toBe(200);
  });
});

describe('against a real server', () => {
  const servers: Server[] = [];
  const serve = async (
    listener: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>,
  ): Promise<string> => {
    const server = createServer((request, response) => void listener(request, response)).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  };
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  });
  const read = async (request: IncomingMessage): Promise<string> => {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk as string;
    return text;
  };

  test.each<[string, (url: string) => Parameters<typeof fetch>]>([
    ['a string', (url) => [url, { method: 'POST', body: 'hello' }]],
    ['a Request', (url) => [new Request(url, { method: 'POST', body: 'hello' })]],
    ['a Blob', (url) => [url, { method: 'POST', body: new Blob(['hello']) }]],
    [
      'a Request with a stream',
      (url) => [
        new Request(url, { method: 'POST', body: new Blob(['hello']).stream(), duplex: 'half' } as RequestInit),
      ],
    ],
  ])('429, then 200, with %s for a body', async (_, make) => {
    const seen: string[] = [];
    const url = await serve(async (request, response) => {
      seen.push(await read(request));
      if (seen.length === 1)
        response.writeHead(429, { ratelimit: '"a";r=0;t=0', 'retry-after': '0.02' }).end('slow down');
      else response.end('ok');
    });
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle, { hold: 'body' })(...make(url));
    expect([response.status, response.url, await response.text(), seen]).toEqual([200, url, 'ok', ['hello', 'hello']]);
    expectNothingHeld(throttle);
  });

  test.each<[string, (url: string, signal: AbortSignal) => Parameters<typeof fetch>]>([
    ['of its own', (url, signal) => [new Request(url, { method: 'POST', body: 'hello', signal })]],
    ['in init', (url, signal) => [new Request(url, { method: 'POST', body: 'hello' }), { signal }]],
  ])('a Request that is sent again is still aborted by the signal %s, after garbage is collected', async (_, make) => {
    let asked = 0;
    const url = await serve(async (request, response) => {
      await read(request);
      if (++asked === 1) response.writeHead(429, { 'retry-after': '0.02' }).end('slow down');
    });
    const throttle = new Throttle(100, 1);
    const stop = new AbortController();
    const reason = new Error('changed my mind');
    const outcome = expect(throttledFetch(throttle)(...make(url, stop.signal))).rejects.toBe(reason);
    await vi.waitFor(() => expect(asked).toBe(2));
    for (let round = 0; round < 5; round++) {
      globalThis.gc!();
      await new Promise((resolve) => void setTimeout(resolve, 10));
    }
    stop.abort(reason);
    await outcome;
    expectNothingHeld(throttle);
  });

  test('a stream sent once is sent once', async () => {
    const url = await serve(async (request, response) => {
      await read(request);
      response.writeHead(429, { 'retry-after': '0.02' }).end('slow down');
    });
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle)(url, {
      method: 'POST',
      body: new Blob(['hello']).stream(),
      duplex: 'half',
    } as RequestInit);
    expect([response.status, await response.text()]).toEqual([429, 'slow down']);
    expectNothingHeld(throttle);
  });

  test("a stream keeps the slot with hold: 'body', and gives it back when it ends or is aborted", async () => {
    const open: ServerResponse[] = [];
    const url = await serve((_, response) => {
      open.push(response);
      response.write('first ');
    });
    const throttle = new Throttle(100, 1);
    const polite = throttledFetch(throttle, { hold: 'body' });
    const stop = new AbortController();
    const first = await polite(url);
    const second = polite(url, { signal: stop.signal });
    const third = polite(url, { signal: AbortSignal.timeout(50) });
    await expect(third).rejects.toMatchObject({ name: 'TimeoutError' });
    expect([throttle.active, throttle.waiting, open.length]).toEqual([1, 1, 1]);
    open[0]!.end('last');
    expect(await first.text()).toBe('first last');
    const text = (await second).text();
    expect([throttle.active, open.length]).toEqual([1, 2]);
    const reason = new Error('changed my mind');
    stop.abort(reason);
    await expect(text).rejects.toBe(reason);
    expectNothingHeld(throttle);
  });

  test('a refusal that is discarded gives its connection back', async () => {
    let sent: ServerResponse | undefined;
    const url = await serve((_, response) => {
      if (sent) response.end('ok');
      else (sent = response.writeHead(503, { 'retry-after': '0.02' })).write('a page that never ends');
    });
    const throttle = new Throttle(100, 1);
    const response = await throttledFetch(throttle)(url);
    expect(await response.text()).toBe('ok');
    if (!sent!.closed) await once(sent!, 'close');
    expectNothingHeld(throttle);
  });

  test('a server that is not there: the error of fetch', async () => {
    const throttle = new Throttle(100, 1);
    const url = await serve(() => {});
    servers[0]!.close();
    await expect(throttledFetch(throttle)(url)).rejects.toThrow(new TypeError('fetch failed'));
    expectNothingHeld(throttle);
  });
});
