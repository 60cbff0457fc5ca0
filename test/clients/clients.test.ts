/** Real clients of real APIs behind a gate, against a local server that counts and refuses as these APIs do. */
import { Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import OpenAI from 'openai';
import { describe, expect, test, vi } from 'vitest';
import { ANSWER } from './apis.js';
import { type Client, type Options, recipes } from './recipes.js';
import { expectNothingHeld, registerHooks, repeat, startUpstream } from './scene.js';
import type { SteppingClock } from './stepping-clock.js';
import type { Upstream } from './upstream-server.js';

registerHooks();

/** Octokit reads whole answers. */
const streaming = Object.keys(recipes).filter((name) => name !== '@octokit/core');

/** 5 requests in any minute, 2 at a time. */
const LIMITS = { requests: 5, period: 60, slots: 2 };

interface Scene {
  readonly clock: SteppingClock;
  readonly upstream: Upstream;
  readonly throttle: Throttle;
  readonly client: Client;
}

/** A client behind a gate whose limits match the limits of the upstream. */
async function setUp(name: string, options: Options = {}): Promise<Scene> {
  const { clock, upstream } = await startUpstream(LIMITS);
  const throttle = new Throttle(LIMITS.requests, LIMITS.slots, LIMITS.period, { window: 'sliding', clock });
  const client = recipes[name]!(throttle, upstream.url, { clock, learn: undefined, ...options });
  return { clock, upstream, throttle, client };
}

/** The status of a refusal that a client reports as an error of its own. */
const statusOf = (error: unknown): unknown => {
  const { status, statusCode, response } = error as {
    status?: number;
    statusCode?: number;
    response?: { status: number };
  };
  return status ?? statusCode ?? response?.status;
};

describe.each(Object.keys(recipes))('%s', (name) => {
  /** What GitHub answers when it refuses. */
  const refusalStatus = name.includes('octokit') ? 403 : 429;

  test('keeps to the limits of the upstream, draws no refusal, and gets all that the upstream allows', async () => {
    const { clock, upstream, throttle, client } = await setUp(name);
    const answers = await clock.drive(
      throttle,
      repeat(12, () => client.send()),
    );
    expect(answers).toEqual(Array.from({ length: 12 }, () => ANSWER));
    expect(upstream.refused).toBe(0);
    expect(upstream.mostActive).toBe(LIMITS.slots);
    expect(upstream.arrivals).toEqual([0, 0, 0, 0, 0, 60, 60, 60, 60, 60, 120, 120]);
    expectNothingHeld(throttle);
  });

  test('a refusal pauses the gate once for all requests, and the client sees only the answer', async () => {
    const { clock, upstream, throttle, client } = await setUp(name);
    const paused = vi.spyOn(throttle, 'pause');
    upstream.refusals = { count: 1, seconds: 20 };
    const answers = await clock.drive(
      throttle,
      repeat(4, () => client.send()),
    );
    expect(answers).toEqual(Array.from({ length: 4 }, () => ANSWER));
    expect(paused.mock.calls).toEqual([[20]]);
    expect([upstream.refused, upstream.arrivals.length]).toEqual([1, 5]);
    // The second request was sent together with the refused one.
    expect(upstream.arrivals).toEqual([0, 0, 20, 20, 20]);
    expectNothingHeld(throttle);
  });

  test('a quota that another program has used up costs one refusal for each request in flight', async () => {
    const { clock, upstream, throttle, client } = await setUp(name);
    const other = recipes[name]!(new Throttle(Infinity, LIMITS.slots), upstream.url);
    await repeat(LIMITS.requests, () => other.send());
    const answers = await clock.drive(
      throttle,
      repeat(5, () => client.send()),
    );
    expect(answers).toEqual(Array.from({ length: 5 }, () => ANSWER));
    expect(upstream.refused).toBeLessThanOrEqual(LIMITS.slots);
    expect(upstream.arrivals.slice(LIMITS.requests).filter((at) => at > 0 && at < 60)).toEqual([]);
    expectNothingHeld(throttle);
  });

  test('with learn, a quota that another program has used up draws no refusal', async () => {
    const { clock, upstream, throttle, client } = await setUp(name, { learn: true });
    const other = recipes[name]!(new Throttle(Infinity, LIMITS.slots), upstream.url);
    await repeat(3, () => other.send());
    const answers = await clock.drive(
      throttle,
      repeat(5, () => client.send()),
    );
    expect(answers).toEqual(Array.from({ length: 5 }, () => ANSWER));
    expect(upstream.refused).toBe(0);
    // The first two requests use what the other program has left.
    expect(upstream.arrivals.slice(3)).toEqual([0, 0, 60, 60, 60]);
    expectNothingHeld(throttle);
  });

  test("a lasting refusal is the client's own error after the retries of the gate alone", async () => {
    const { clock, upstream, throttle, client } = await setUp(name);
    upstream.refusals = { count: Infinity, seconds: 20 };
    const error: unknown = await clock.drive(
      throttle,
      client.send().catch((reason: unknown) => reason),
    );
    expect(statusOf(error)).toBe(refusalStatus);
    expect(upstream.arrivals).toEqual([0, 20, 40]);
    expectNothingHeld(throttle);
  });

  test('an hour in the queue is no timeout', async () => {
    const { clock, throttle, client } = await setUp(name);
    throttle.pause(3600);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
    const onSettled = vi.fn();
    const answer = client.send();
    answer.then(onSettled, onSettled);
    try {
      while (throttle.waiting === 0) await new Promise((resolve) => void setImmediate(resolve));
      await vi.advanceTimersByTimeAsync(3_600_000);
    } finally {
      vi.useRealTimers();
    }
    expect(onSettled).not.toHaveBeenCalled();
    expect(await clock.drive(throttle, answer)).toBe(ANSWER);
  });

  test('`timeout` of throttledFetch ends an attempt, and does not count the time in the queue', async () => {
    const { clock, upstream, throttle, client } = await setUp(name, { timeout: 5 });
    throttle.pause(100);
    upstream.stallsAt = 'headers';
    const answer = client.send();
    const ended = answer.then(
      () => 'answered',
      () => clock.now(),
    );
    await vi.waitFor(() => expect(throttle.waiting).toBe(1));
    await clock.advance(100);
    await vi.waitFor(() => expect(upstream.active).toBe(1));
    await clock.advance(5);
    expect(await ended).toBe(105);
    expectNothingHeld(throttle);
    upstream.stallsAt = undefined;
    expect(await clock.drive(throttle, client.send())).toBe(ANSWER);
  });

  test('`wait` of throttledFetch bounds the time in the queue', async () => {
    const { upstream, throttle, client } = await setUp(name, { wait: 10 });
    throttle.pause(100);
    await expect(client.send()).rejects.toThrow();
    expect(upstream.arrivals).toEqual([]);
    expectNothingHeld(throttle);
  });

  test('an abort in the queue leaves the queue, and no request is sent', async () => {
    const { clock, upstream, throttle, client } = await setUp(name);
    throttle.pause(20);
    const controller = new AbortController();
    const answer = client.send(controller.signal);
    answer.catch(() => {});
    await vi.waitFor(() => expect(throttle.waiting).toBe(1));
    controller.abort();
    await expect(answer).rejects.toThrow();
    await vi.waitFor(() => expectNothingHeld(throttle));
    expect(upstream.arrivals).toEqual([]);
    expect(await clock.drive(throttle, client.send())).toBe(ANSWER);
    expect(upstream.arrivals).toEqual([20]);
  });

  const parts = streaming.includes(name) ? (['headers', 'stream'] as const) : (['headers'] as const);
  test.each(parts)('an abort before the end of the %s frees the slot', async (part) => {
    const { clock, upstream, throttle, client } = await setUp(name);
    const send = part === 'stream' ? client.stream! : client.send;
    upstream.stallsAt = part;
    const controller = new AbortController();
    const answers = [send(controller.signal), send(controller.signal)];
    for (const answer of answers) answer.catch(() => {});
    const next = client.send();
    await vi.waitFor(() => expect([upstream.active, throttle.active, throttle.waiting]).toEqual([2, 2, 1]));
    upstream.stallsAt = undefined;
    controller.abort();
    for (const answer of answers) await expect(answer).rejects.toThrow();
    expect(await clock.drive(throttle, next)).toBe(ANSWER);
    await vi.waitFor(() => expectNothingHeld(throttle));
    expect(upstream.refused).toBe(0);
  });
});

describe.each(streaming)('a stream of %s', (name) => {
  test('holds its slot until it has been read', async () => {
    const { clock, upstream, throttle, client } = await setUp(name);
    const answers = await clock.drive(
      throttle,
      repeat(7, () => client.stream!()),
    );
    expect(answers).toEqual(Array.from({ length: 7 }, () => ANSWER));
    expect([upstream.refused, upstream.mostActive]).toEqual([0, LIMITS.slots]);
    expect(upstream.arrivals).toEqual([0, 0, 0, 0, 0, 60, 60]);
    expectNothingHeld(throttle);
  });
});

// Leaving a stream of the AI SDK does not end its request: only its signal does.
test.each(streaming.filter((name) => name !== 'ai'))(
  '%s: a caller that leaves a stream early frees its slot',
  async (name) => {
    const { clock, upstream, throttle, client } = await setUp(name);
    upstream.stallsAt = 'stream';
    await client.peek!();
    await vi.waitFor(() => expect([upstream.active, throttle.active]).toEqual([0, 0]));
    upstream.stallsAt = undefined;
    expect(await clock.drive(throttle, client.send())).toBe(ANSWER);
  },
);

test("a client's own retries multiply the retries of the gate", async () => {
  const { clock, upstream } = await startUpstream(LIMITS);
  const throttle = new Throttle(100, LIMITS.slots, LIMITS.period, { clock });
  upstream.refusals = { count: Infinity, seconds: 0.02 };
  const client = new OpenAI({
    baseURL: `${upstream.url}/v1`,
    apiKey: 'secret',
    fetch: throttledFetch(throttle, { clock }),
    maxRetries: 2,
  });
  const answer = client.chat.completions.create({ model: 'gpt-5', messages: [] });
  await expect(clock.drive(throttle, answer)).rejects.toThrow();
  expect(upstream.arrivals).toHaveLength(9);
});
