/** The options of throttledFetch: their validation, their defaults, and the function that sends the requests. */
import type { Gate } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { describe, expect, test, vi } from 'vitest';
import { setUp } from '../support/support.js';
import { FakeUpstream, registerHooks, retryAfter, setUpFetch, URL_A } from './fake-upstream.js';
import { ThrottleMap } from './throttle-map.js';

registerHooks();

describe('options', () => {
  const { throttle } = setUp();
  const keyed = new ThrottleMap<string>({});

  test.each<[string, unknown, unknown]>([
    ['gate must be a Gate or a KeyedGate, received undefined', undefined, {}],
    ['gate must be a Gate or a KeyedGate, received object', {}, {}],
    ['options must be an object, received null', throttle, null],
    ['options must be an object, received 5', throttle, 5],
    ['fetch must be a function, received "fetch"', throttle, { fetch: 'fetch' }],
    ['key must be undefined for a gate without keys, received "a"', throttle, { key: 'a' }],
    ['key must be undefined for a gate without keys, received function', throttle, { key: () => 'a' }],
    ['cost must be a finite number >= 0, received -1', throttle, { cost: -1 }],
    ['cost must be a finite number >= 0, received "1"', throttle, { cost: '1' }],
    ['cost must be a finite number >= 0, received object', throttle, { cost: [1] }],
    ['cost.tokens must be a finite number >= 0, received -1', throttle, { cost: { tokens: -1 } }],
    ['settle must be a function, received true', throttle, { settle: true }],
    ['skip must be a function, received "/health"', throttle, { skip: '/health' }],
    ['refundRefused must be a boolean, received "no"', throttle, { refundRefused: 'no' }],
    ['learn must be true or a function, received false', throttle, { learn: false }],
    ['learn must be true or a function, received "openai"', throttle, { learn: 'openai' }],
    ['wait must be a number >= 0, received -1', throttle, { wait: -1 }],
    ['wait must be a number >= 0, received NaN', throttle, { wait: Number.NaN }],
    ['timeout must be a number > 0, received 0', throttle, { timeout: 0 }],
    ['timeout must be a number > 0, received "5"', throttle, { timeout: '5' }],
    ['retries must be an integer >= 0, received 1.5', throttle, { retries: 1.5 }],
    ['retries must be an integer >= 0, received -1', throttle, { retries: -1 }],
    ['retries must be an integer >= 0, received null', throttle, { retries: null }],
    ['statuses must be an array, received 429', throttle, { statuses: 429 }],
    ['statuses must be integers from 100 to 999, received "429"', throttle, { statuses: ['429'] }],
    ['statuses must be integers from 100 to 999, received undefined', throttle, { statuses: [429, undefined] }],
    ['statuses must be integers from 100 to 999, received 99', throttle, { statuses: [99] }],
    ['statuses must be integers from 100 to 999, received 1000', throttle, { statuses: [1000] }],
    ['statuses must be integers from 100 to 999, received 429.5', throttle, { statuses: [429.5] }],
    ['maxPause must be a number > 0, received 0', throttle, { maxPause: 0 }],
    ['maxPause must be a number > 0, received NaN', throttle, { maxPause: Number.NaN }],
    ['maxPause must be a number > 0, received "5"', throttle, { maxPause: '5' }],
    ['hold must be "headers" or "body", received "both"', throttle, { hold: 'both' }],
    ['hold must be "headers" or "body", received null', keyed, { hold: null }],
    ['refusal must be a function, received true', keyed, { refusal: true }],
    ['clock must be a Clock, received null', throttle, { clock: null }],
    ['clock must be a Clock, received object', throttle, { clock: { now: () => 0 } }],
  ])('%s', (message, gate, options) => {
    const create = (): unknown => throttledFetch(gate as Gate, options as ThrottledFetchOptions);
    expect(create).toThrow(message);
    expect(create).toThrow(
      message.endsWith('"') ||
        /received (undefined|null|object|function|true|false)|must be an? (object|array)/.test(message)
        ? TypeError
        : RangeError,
    );
  });

  test('options given as undefined keep their defaults', async () => {
    const { clock, throttle: limited } = setUp();
    const upstream = new FakeUpstream(clock, retryAfter(1), retryAfter(1), retryAfter(1));
    vi.stubGlobal('fetch', upstream.fetch);
    const allUndefined = {
      fetch: undefined,
      key: undefined,
      cost: undefined,
      settle: undefined,
      refundRefused: undefined,
      learn: undefined,
      wait: undefined,
      timeout: undefined,
      skip: undefined,
      retries: undefined,
      statuses: undefined,
      refusal: undefined,
      maxPause: undefined,
      hold: undefined,
      clock: undefined,
    };
    const response = throttledFetch(limited, allUndefined)(URL_A);
    await clock.advance(60);
    expect([(await response).status, upstream.times, limited.tokens]).toEqual([429, [0, 1, 2], 10]);
  });

  test('the global fetch is looked up at each request, and called without `this`', async () => {
    const limitedFetch = throttledFetch(setUp().throttle);
    const seen: unknown[] = [];
    for (const name of ['first', 'second']) {
      vi.stubGlobal('fetch', async function (this: unknown, ...args: unknown[]): Promise<Response> {
        seen.push(this, args);
        return new Response(name);
      });
      expect(await (await limitedFetch(URL_A)).text()).toBe(name);
    }
    const options: ThrottledFetchOptions = {
      async fetch(this: unknown) {
        seen.push(this);
        return new Response('custom');
      },
    };
    expect(await (await throttledFetch(setUp().throttle, options)(URL_A)).text()).toBe('custom');
    expect(seen).toEqual([undefined, [URL_A, undefined], undefined, [URL_A, undefined], undefined]);
  });

  test('a later change of the options has no effect', async () => {
    const statuses = [429];
    const { clock, limitedFetch, upstream } = setUpFetch([retryAfter(1)], { statuses });
    statuses.pop();
    const response = limitedFetch(URL_A);
    await clock.advance(1);
    expect([(await response).status, upstream.calls.length]).toEqual([200, 2]);
  });
});
