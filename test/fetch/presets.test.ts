/** The presets: what they refuse, and what the gate learns from the API. */
import { Throttle } from 'headgate';
import { anthropic, github, openai, throttledFetch } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { FakeUpstream, refusal, registerHooks, type Reply, URL_A } from './fake-upstream.js';

registerHooks();

const presets = { openai, anthropic, github };
const setUpPreset = (name: keyof typeof presets, ...replies: Reply[]) => {
  const clock = new ManualClock();
  const also = ['tokens', 'input-tokens', 'output-tokens', 'search'].map((rate) => ({
    name: rate,
    capacity: 100_000,
    period: 1e12,
  }));
  const throttle = new Throttle(100, 0, 1e12, { clock, also });
  const upstream = new FakeUpstream(clock, ...replies);
  return {
    clock,
    throttle,
    upstream,
    limitedFetch: throttledFetch(throttle, { ...presets[name], fetch: upstream.fetch, clock }),
  };
};

describe('presets', () => {
  test.each<[keyof typeof presets, string, Response, 1 | 2]>([
    ['openai', 'a 429', refusal({ 'retry-after-ms': '500' }), 2],
    ['openai', 'a 429 without a body', new Response(null, { status: 429 }), 2],
    ['openai', 'a 503', refusal({}, 503), 2],
    [
      'openai',
      'a 429 for an exhausted budget',
      Response.json({ error: { code: 'insufficient_quota' } }, { status: 429 }),
      1,
    ],
    ['openai', 'a 403', refusal({ 'retry-after': '1' }, 403), 1],
    ['anthropic', 'a 429', refusal({ 'retry-after': '1' }), 2],
    ['anthropic', 'a 529', refusal({}, 529), 2],
    ['github', 'a 429', refusal({ 'retry-after': '1' }), 2],
    ['github', 'a 403 for a secondary limit', refusal({ 'retry-after': '1', 'x-ratelimit-remaining': '4990' }, 403), 2],
    ['github', 'a 403 for the main limit', refusal({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1' }, 403), 2],
    [
      'github',
      'a 403 for a missing permission',
      refusal({ 'x-ratelimit-remaining': '4990', 'x-ratelimit-reset': '1' }, 403),
      1,
    ],
    ['github', 'a 500', refusal({ 'retry-after': '1' }, 500), 1],
  ])('%s: the attempts after %s', async (name, _, reply, attempts) => {
    const clock = new ManualClock();
    const upstream = new FakeUpstream(clock, reply);
    // Without `learn`: a gate that has learned of an empty quota would not send the second attempt.
    const options = { ...presets[name], learn: undefined, fetch: upstream.fetch, clock };
    const limitedFetch = throttledFetch(new Throttle(100, 1, 1, { clock }), options);
    const response = limitedFetch(URL_A);
    await clock.advance(5);
    expect([(await response).status, upstream.calls.length]).toEqual([attempts === 2 ? 200 : reply.status, attempts]);
  });

  test('openai and anthropic lower the rates by their names', async () => {
    const first = setUpPreset('openai', new Response('', { headers: { 'x-ratelimit-remaining-tokens': '700' } }));
    await first.limitedFetch(URL_A);
    expect(Math.round(first.throttle.levels['tokens']!)).toBe(700);
    const headers = {
      'anthropic-ratelimit-input-tokens-remaining': '300',
      'anthropic-ratelimit-output-tokens-remaining': '80',
    };
    const second = setUpPreset('anthropic', new Response('', { headers }));
    await second.limitedFetch(URL_A);
    const { levels } = second.throttle;
    expect([levels['input-tokens'], levels['output-tokens']].map((level) => Math.round(level!))).toEqual([300, 80]);
  });

  test('github keeps the quota of searches apart', async () => {
    const headers = { 'x-ratelimit-remaining': '29', 'x-ratelimit-resource': 'search' };
    const { throttle, limitedFetch } = setUpPreset('github', new Response('', { headers }));
    await limitedFetch(URL_A);
    expect([throttle.tokens, throttle.levels['search']!].map(Math.round)).toEqual([99, 29]);
  });

  test('a response that cannot be cloned is judged by its status', async () => {
    const reply = { status: 429, headers: new Headers() } as unknown as Response;
    const { clock, limitedFetch, upstream } = setUpPreset('openai', reply);
    const response = limitedFetch(URL_A);
    await clock.advance(5);
    expect([(await response).status, upstream.calls.length]).toEqual([200, 2]);
  });
});
