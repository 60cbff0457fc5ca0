/** The option `learn`: levels that follow what the upstream reports. */
import fc from 'fast-check';
import { type Gate, type KeyedGate, KeyedThrottle, Throttle } from 'headgate';
import { throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import {
  deferResponse,
  expectNothingHeld,
  FakeUpstream,
  refusal,
  registerHooks,
  type Reply,
  URL_A,
} from './fake-upstream.js';
import { also, createLlm, levels, openaiHeaders } from './llm-gate.js';
import { expectNoWarning, recordWarnings } from './warnings.js';

registerHooks();
const warnings = recordWarnings();

const setUpLlm = (
  replies: Reply[],
  options: ThrottledFetchOptions<string, typeof fetch, 'tokens'> = {},
): { clock: ManualClock; throttle: Throttle<'tokens'>; limitedFetch: typeof fetch } => {
  const clock = new ManualClock();
  const throttle = createLlm(clock);
  const { fetch } = new FakeUpstream(clock, ...replies);
  const limitedFetch = throttledFetch(throttle, { fetch, clock, learn: true, cost: { tokens: 10 }, ...options });
  return { clock, throttle, limitedFetch };
};

describe('learn: true', () => {
  test('lowers the main rate by requests, and the rate named tokens by tokens', async () => {
    const { throttle, limitedFetch } = setUpLlm([new Response('', { headers: openaiHeaders(40, 700) })]);
    await limitedFetch(URL_A);
    expect(levels(throttle)).toEqual([40, 700]);
    expectNoWarning(warnings);
  });

  test('never raises a level, and keeps each rate apart', async () => {
    const { throttle, limitedFetch } = setUpLlm([new Response('', { headers: openaiHeaders(5_000, 700) })]);
    await limitedFetch(URL_A);
    expect(levels(throttle)).toEqual([99, 700]);
  });

  test('learns from a refusal, too, and its refund does not raise the level again', async () => {
    const { throttle, limitedFetch } = setUpLlm([refusal({ 'x-ratelimit-remaining-requests': '0' })], { retries: 0 });
    await limitedFetch(URL_A);
    expect(levels(throttle)).toEqual([0, 1_000]);
    expectNothingHeld(throttle);
  });

  test('the lower level precedes the release: the next waiter does not start', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(100, 1, 1e12 + 1, { clock });
    const upstream = new FakeUpstream(clock, new Response('', { headers: { 'x-ratelimit-remaining': '0' } }));
    const limitedFetch = throttledFetch(throttle, { fetch: upstream.fetch, learn: true });
    const controller = new AbortController();
    const [, second] = [limitedFetch(URL_A), limitedFetch(URL_A, { signal: controller.signal })];
    await clock.advance(10);
    expect([upstream.calls.length, throttle.waiting, throttle.active]).toEqual([1, 1, 0]);
    controller.abort();
    await expect(second).rejects.toThrow('aborted');
  });

  test('ignores fields of rates that the gate does not have, and unreadable fields', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(100, 0, 1e12 + 1, { clock });
    const headers = { 'x-ratelimit-remaining-tokens': '5', 'x-ratelimit-remaining-requests': 'many' };
    const limitedFetch = throttledFetch(throttle, { fetch: async () => new Response('', { headers }), learn: true });
    await limitedFetch(URL_A);
    expect(Math.round(throttle.tokens)).toBe(99);
    expectNoWarning(warnings);
  });

  test('subtracts the requests that were sent later and have no response yet', async () => {
    const [first, second, third] = [deferResponse(), deferResponse(), deferResponse()];
    const { clock, throttle, limitedFetch } = setUpLlm([first.promise, second.promise, third.promise]);
    const all = Promise.all([limitedFetch(URL_A), limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(0);
    expect(levels(throttle)).toEqual([97, 970]);
    // The first request has arrived before the second one: only the third one is not counted.
    second.resolve(new Response('', { headers: openaiHeaders(50, 500) }));
    await clock.advance(0);
    expect(levels(throttle)).toEqual([49, 490]);
    // The answer to the second request is newer than the answer to the first one, which it has overtaken.
    first.resolve(new Response('', { headers: openaiHeaders(51, 510) }));
    await clock.advance(0);
    expect(levels(throttle)).toEqual([49, 490]);
    third.resolve(new Response('', { headers: openaiHeaders(20, 480) }));
    await all;
    expect(levels(throttle)).toEqual([20, 480]);
  });

  test('a failed request no longer counts as in flight', async () => {
    const [first, second] = [deferResponse(), deferResponse()];
    const { clock, throttle, limitedFetch } = setUpLlm([first.promise, second.promise]);
    const both = Promise.allSettled([limitedFetch(URL_A), limitedFetch(URL_A)]);
    await clock.advance(0);
    second.resolve(Promise.reject(new Error('lost')) as never);
    await clock.advance(0);
    first.resolve(new Response('', { headers: openaiHeaders(50, 500) }));
    await both;
    expect(levels(throttle)).toEqual([50, 500]);
  });

  test('keeps the keys of a keyed gate apart', async () => {
    const clock = new ManualClock();
    const gate = new KeyedThrottle(100, 0, 1e12 + 1, { clock, also });
    const [first, second] = [deferResponse(), deferResponse()];
    const { fetch } = new FakeUpstream(clock, first.promise, second.promise);
    const limitedFetch = throttledFetch(gate, { fetch, learn: true, cost: { tokens: 10 } });
    const both = Promise.all([limitedFetch(URL_A), limitedFetch('https://b.example/')]);
    await clock.advance(0);
    first.resolve(new Response('', { headers: openaiHeaders(50, 500) }));
    await clock.advance(0);
    expect(levels(gate.peek('https://a.example')!)).toEqual([50, 500]);
    expect(levels(gate.peek('https://b.example')!)).toEqual([99, 990]);
    second.resolve(new Response());
    await both;
  });

  test('after a redirect, lowers the levels of the origin that responded', async () => {
    const clock = new ManualClock();
    const gate = new KeyedThrottle(100, 0, 1e12 + 1, { clock, also });
    const response = new Response('', { headers: openaiHeaders(50, 500) });
    Object.defineProperties(response, { redirected: { value: true }, url: { value: 'https://b.example/' } });
    await throttledFetch(gate, { fetch: async () => response, learn: true })(URL_A);
    expect(levels(gate.peek('https://b.example')!)).toEqual([50, 500]);
    expect(levels(gate.peek('https://a.example')!)).toEqual([99, 999]);
  });

  test('passes the reported levels to the correct method of any gate', async () => {
    const { throttle, clock } = setUpLlm([]);
    const correct = vi.fn<NonNullable<Gate['correct']>>(async () => {});
    const gate: Gate = {
      acquire: (cost, options) => throttle.acquire(cost, options),
      tryAcquire: () => undefined,
      run: (fn, cost) => throttle.run(fn, cost),
      pause: () => {},
      resume: () => {},
      close: () => {},
      correct,
    };
    const fetch = async (): Promise<Response> => new Response('', { headers: openaiHeaders(50, 500) });
    await throttledFetch(gate, { fetch, learn: true, clock })(URL_A);
    expect(correct.mock.calls).toEqual([[{ cost: 50, tokens: 500 }, { onlyLower: true }]]);
  });

  test('has no effect on a gate that cannot be corrected', async () => {
    const { throttle } = setUpLlm([]);
    const gate: Pick<KeyedGate, 'keyed' | 'acquire'> = {
      keyed: true,
      acquire: (_, cost, options) => throttle.acquire(cost, options),
    };
    const fetch = async (): Promise<Response> => new Response('ok', { headers: openaiHeaders(50, 500) });
    const response = await throttledFetch(gate as KeyedGate, { fetch, learn: true })(URL_A);
    expect(await response.text()).toBe('ok');
    expectNoWarning(warnings);
  });
});

describe('a learn function', () => {
  test.each<[string, number | Record<string, number | undefined> | undefined, [number, number]]>([
    ['a number, for the main rate', 40, [40, 990]],
    ['a record', { cost: 40, tokens: 300 }, [40, 300]],
    ['a record of one rate', { tokens: 300 }, [99, 300]],
    ['a record with an undefined entry', { tokens: undefined, cost: 40 }, [40, 990]],
    ['a debt', { tokens: -50 }, [99, -50]],
    ['an empty record', {}, [99, 990]],
    ['undefined', undefined, [99, 990]],
  ])('may return %s', async (_, result, expected) => {
    const seen: Response[] = [];
    const reply = new Response('ok');
    const { throttle, limitedFetch } = setUpLlm([reply], {
      learn: (response) => (seen.push(response), result),
    });
    expect(await (await limitedFetch(URL_A)).text()).toBe('ok');
    expect(seen).toEqual([reply]);
    expect(levels(throttle)).toEqual(expected);
    expectNoWarning(warnings);
  });

  const failures: Record<string, () => unknown> = {
    throws: () => JSON.parse(''),
    'returns NaN': () => NaN,
    'returns an unknown name': () => ({ tokns: 5 }),
    'returns a string': () => '5',
    'returns null': () => null,
    'returns a promise': async () => 5,
    'returns a promise that rejects': () => Promise.reject(new Error('late')),
    'returns an object whose `then` throws': () => Object.defineProperty({}, 'then', { get: () => JSON.parse('') }),
  };
  test.each(Object.entries(failures))('that %s does not affect the request, and warns once', async (_, learn) => {
    const { throttle, limitedFetch } = setUpLlm([], { learn: learn as never });
    for (let count = 1; count <= 2; count++) expect(await (await limitedFetch(URL_A)).text()).toBe('ok');
    expect(levels(throttle)).toEqual([98, 980]);
    expectNothingHeld(throttle);
    expect(warnings.codes()).toEqual(['HEADGATE_LEARN_FAILED']);
  });

  test.each<[string, () => never | Promise<never>]>([
    ['throws', () => JSON.parse('') as never],
    ['rejects', () => Promise.reject(new Error('Redis is away'))],
  ])('a correct method that %s does not affect the request, and warns once', async (_, correct) => {
    const { throttle } = setUpLlm([]);
    const gate = { acquire: (cost?: number) => throttle.acquire(cost), pause: () => {}, correct } as unknown as Gate;
    const limitedFetch = throttledFetch(gate, { fetch: async () => new Response('ok'), learn: () => 5 });
    for (let count = 1; count <= 2; count++) expect(await (await limitedFetch(URL_A)).text()).toBe('ok');
    await new Promise((resolve) => void setImmediate(resolve));
    expectNothingHeld(throttle);
    expect(warnings.codes()).toEqual(['HEADGATE_LEARN_FAILED']);
  });
});

/**
 * An upstream that counts each request when it arrives, and answers later, in any order. Other clients use the same
 * quota. By the definition of "remaining": what the response to request A reports, less all own requests that were
 * sent after A, is an upper bound of what this client may still send. Without other clients, nothing is to be learned.
 */
describe('a quota that other clients use, too', () => {
  type Step = { kind: 'send'; cost: number } | { kind: 'answer'; index: number } | { kind: 'other'; cost: number };
  const step = (withOthers: boolean): fc.Arbitrary<Step> =>
    fc.oneof(
      fc.record({ kind: fc.constant('send' as const), cost: fc.integer({ min: 0, max: 9 }) }),
      fc.record({ kind: fc.constant('answer' as const), index: fc.nat(20) }),
      ...(withOthers ? [fc.record({ kind: fc.constant('other' as const), cost: fc.integer({ min: 1, max: 9 }) })] : []),
    );

  const simulate = async (steps: Step[], withOthers: boolean): Promise<void> => {
    const clock = new ManualClock();
    const throttle = new Throttle(1_000, 0, 1e12 + 1, { clock, also: [{ ...also[0]!, capacity: 1_000 }] });
    let remaining = 1_000;
    let sent = 0;
    const open: { cost: number; reported: number; sentBefore: number; resolve: (response: Response) => void }[] = [];
    const bounds: { reported: number; sentBefore: number }[] = [];
    const limitedFetch = throttledFetch(throttle, {
      fetch: (_, init) => {
        const cost = Number(init?.body);
        remaining -= cost;
        sent += cost;
        return new Promise((resolve) => void open.push({ cost, reported: remaining, sentBefore: sent, resolve }));
      },
      cost: (_, init) => ({ tokens: Number(init?.body) }),
      learn: true,
    });
    for (const each of steps) {
      if (each.kind === 'other') remaining -= each.cost;
      else if (each.kind === 'send') {
        if (throttle.levels.tokens < each.cost) continue;
        void limitedFetch(URL_A, { method: 'POST', body: String(each.cost) });
        await clock.advance(0);
      } else if (open.length > 0) {
        const [answered] = open.splice(each.index % open.length, 1) as [(typeof open)[number]];
        bounds.push(answered);
        answered.resolve(
          new Response('', { headers: { 'x-ratelimit-remaining-tokens': String(Math.max(0, answered.reported)) } }),
        );
        await clock.advance(0);
        for (const bound of bounds)
          expect(throttle.levels.tokens).toBeLessThanOrEqual(
            Math.max(0, bound.reported) - (sent - bound.sentBefore) + 1e-3,
          );
      }
      if (!withOthers) expect(throttle.levels.tokens).toBeCloseTo(1_000 - sent, 3);
    }
    for (const { resolve } of open) resolve(new Response());
    await clock.advance(0);
    expectNothingHeld(throttle);
  };

  test('the level never exceeds what any response leaves for later requests', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step(true), { maxLength: 40 }), (steps) => simulate(steps, true)));
  });

  test('without other clients, learning changes nothing', async () => {
    await fc.assert(fc.asyncProperty(fc.array(step(false), { maxLength: 40 }), (steps) => simulate(steps, false)));
  });
});
