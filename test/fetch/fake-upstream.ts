/** A fake upstream on a manual clock, and a throttledFetch in front of it. */
import type { Throttle } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { afterEach, beforeEach, expect, type MockInstance, vi } from 'vitest';
import { setUp } from '../support/support.js';
import { ThrottleMap } from './throttle-map.js';

export const URL_A = 'https://a.example/items';

/** Mocks `Math.random` to return 0, and fails tests that leave an unhandled rejection. Returns the mock. */
export function registerHooks(): MockInstance<typeof Math.random> {
  const random = vi.spyOn(Math, 'random');
  const onUnhandledRejection = vi.fn();
  process.on('unhandledRejection', onUnhandledRejection);
  beforeEach(() => void random.mockReturnValue(0));
  afterEach(async () => {
    await new Promise((resolve) => void setImmediate(resolve));
    expect(onUnhandledRejection).not.toHaveBeenCalled();
    vi.unstubAllGlobals();
  });
  return random;
}

/** A call of `fetch`, and the time of the clock. */
export type Call = { at: number; input: string | URL | Request; init: RequestInit | undefined };
/** A response, an error that rejects the call, or a function that computes the response from the call. */
export type Reply = Response | Error | Promise<Response> | ((call: Call) => Response | Promise<Response>);

/** Replies to each call in turn, and with `ok` after the last reply. Records all calls. */
export class FakeUpstream {
  readonly calls: Call[] = [];
  readonly #clock: ManualClock;
  readonly #replies: Reply[];

  constructor(clock: ManualClock, ...replies: Reply[]) {
    this.#clock = clock;
    this.#replies = replies;
  }

  readonly fetch: typeof fetch = async (input: string | URL | Request, init?: RequestInit) => {
    const call = { at: this.#clock.now(), input, init };
    this.calls.push(call);
    const reply = this.#replies.shift() ?? new Response('ok');
    if (reply instanceof Error) throw reply;
    return typeof reply === 'function' ? reply(call) : reply;
  };

  get times(): number[] {
    return this.calls.map(({ at }) => at);
  }
}

export const refusal = (headers: HeadersInit = {}, status = 429): Response =>
  new Response('slow down', { status, headers });
export const retryAfter = (seconds: number | string): Response => refusal({ 'Retry-After': String(seconds) });

/** A response that arrives when the test calls `resolve`. */
export const deferResponse = (): { promise: Promise<Response>; resolve: (response: Response) => void } => {
  let resolve!: (response: Response) => void;
  const promise = new Promise<Response>((settle) => (resolve = settle));
  return { promise, resolve };
};

interface Scene {
  clock: ManualClock;
  upstream: FakeUpstream;
  limitedFetch: typeof fetch;
}

/** A `Throttle`, unlimited in practice, in front of an upstream. */
export const setUpFetch = (
  replies: Reply[],
  options: ThrottledFetchOptions = {},
  [capacity, concurrency]: [number, number] = [100, 0],
): Scene & { throttle: Throttle } => {
  const { clock, throttle } = setUp(capacity, concurrency);
  const upstream = new FakeUpstream(clock, ...replies);
  const limitedFetch = throttledFetch(throttle, { fetch: upstream.fetch, clock, ...options });
  return { clock, throttle, upstream, limitedFetch };
};

/** A `ThrottleMap` in front of an upstream. */
export const setUpKeyedFetch = (
  replies: Reply[],
  options: ThrottledFetchOptions = {},
  concurrency = 0,
): Scene & { gate: ThrottleMap<string> } => {
  const clock = new ManualClock();
  const gate = new ThrottleMap<string>({ clock }, concurrency);
  const upstream = new FakeUpstream(clock, ...replies);
  const limitedFetch = throttledFetch(gate, { fetch: upstream.fetch, clock, ...options });
  return { clock, gate, upstream, limitedFetch };
};

export const expectNothingHeld = (throttle: Throttle): void =>
  expect([throttle.active, throttle.waiting]).toEqual([0, 0]);
