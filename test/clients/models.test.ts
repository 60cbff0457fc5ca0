/** The clients of language models: requests and tokens in one gate, an estimate first, the true number afterwards. */
import { Throttle } from 'headgate';
import { describe, expect, test } from 'vitest';
import { ANSWER } from './apis.js';
import { type Client, type ModelOptions, modelRecipes } from './recipes.js';
import { expectNothingHeld, registerHooks, repeat, startUpstream } from './scene.js';
import type { SteppingClock } from './stepping-clock.js';
import type { Upstream } from './upstream-server.js';

registerHooks();

/** In any minute; 2 requests at a time. */
const LIMITS = { requests: 100, tokens: 1_000, period: 60, slots: 2 };
/** The estimate that the recipes state as their most output tokens, and the true number. */
const [ESTIMATE, TRUE] = [100, 30];

interface Usage {
  readonly total_tokens?: number;
  readonly input_tokens?: number;
  readonly output_tokens?: number;
}
type Event = { readonly usage?: Usage | null; readonly message?: { readonly usage: Usage } };

/** The tokens of an answer of OpenAI or Anthropic, whole or as a stream. */
async function tokensOf(response: Response): Promise<number> {
  const text = await response.text();
  const lines = response.headers.get('content-type')?.startsWith('text/event-stream')
    ? text.split('\n').flatMap((line) => (line.startsWith('data: {') ? [line.slice('data: '.length)] : []))
    : [text];
  // In a stream, later events replace the numbers of earlier ones.
  const usage: Usage = {};
  for (const event of lines.map((line) => JSON.parse(line) as Event))
    Object.assign(usage, event.message?.usage, event.usage);
  return usage.total_tokens ?? (usage.input_tokens ?? NaN) + (usage.output_tokens ?? NaN);
}

/** The estimate is read from the request, as a program would that has many kinds of requests. */
const cost: ModelOptions['cost'] = async (_, init) => {
  const body = JSON.parse(init?.body as string) as { max_tokens?: number; max_completion_tokens?: number };
  return { tokens: body.max_completion_tokens ?? body.max_tokens ?? NaN };
};
const settle: ModelOptions['settle'] = async (response, permit) => permit.settle({ tokens: await tokensOf(response) });

type LLM = Throttle<'tokens'>;
interface Scene {
  readonly clock: SteppingClock;
  readonly upstream: Upstream;
  readonly llm: LLM;
  readonly client: Client;
}
async function setUp(name: string, options: ModelOptions, { slots } = LIMITS): Promise<Scene> {
  const { clock, upstream } = await startUpstream(LIMITS);
  upstream.tokensOf = () => TRUE;
  const llm = new Throttle(LIMITS.requests, slots, LIMITS.period, {
    window: 'sliding',
    also: [{ name: 'tokens', capacity: LIMITS.tokens, period: LIMITS.period, window: 'sliding' }],
    clock,
  });
  return {
    clock,
    upstream,
    llm,
    client: modelRecipes[name]!(llm, upstream.url, { clock, learn: undefined, ...options }),
  };
}

describe.each(Object.keys(modelRecipes))('%s', (name) => {
  describe.each(['send', 'stream'] as const)('%s', (method) => {
    test('without settle, a minute takes only as many requests as their estimates allow', async () => {
      const { clock, upstream, llm, client } = await setUp(name, { cost });
      const answers = await clock.drive(
        llm,
        repeat(12, () => client[method]!()),
      );
      expect(answers).toEqual(Array.from({ length: 12 }, () => ANSWER));
      expect(upstream.refused).toBe(0);
      expect(upstream.arrivals.filter((at) => at === 0)).toHaveLength(LIMITS.tokens / ESTIMATE);
    });

    test('settles the tokens that the answer states, so a minute takes all the requests that fit', async () => {
      const { clock, upstream, llm, client } = await setUp(name, { cost, settle });
      const answers = await clock.drive(
        llm,
        repeat(33, () => client[method]!()),
      );
      expect(answers).toEqual(Array.from({ length: 33 }, () => ANSWER));
      expect([upstream.refused, upstream.mostActive]).toEqual([0, LIMITS.slots]);
      // After 30 answers 900 tokens are used, and the estimate of one more request fits. After 31 it does not.
      expect(upstream.arrivals).toEqual([...Array.from({ length: 31 }, () => 0), 60, 60]);
      expect(llm.levels.tokens).toBe(LIMITS.tokens - 2 * TRUE);
      expectNothingHeld(llm);
    });

    test('with learn too, draws no refusal, and settles', async () => {
      const { clock, upstream, llm, client } = await setUp(name, { cost, settle, learn: true });
      const answers = await clock.drive(
        llm,
        repeat(33, () => client[method]!()),
      );
      expect(answers).toEqual(Array.from({ length: 33 }, () => ANSWER));
      expect(upstream.refused).toBe(0);
      // Two requests can arrive in the other order. Then the gate learns a number that is too low by an estimate.
      const first = upstream.arrivals.filter((at) => at === 0).length;
      expect(first).toBeGreaterThan(LIMITS.tokens / ESTIMATE);
      expect(upstream.arrivals).toEqual(Array.from({ length: 33 }, (_, index) => (index < first ? 0 : 60)));
      expectNothingHeld(llm);
    });

    test('a number above the estimate is a debt that later requests wait for', async () => {
      // One request at a time, because the tokens of a request in flight are unknown.
      const { clock, upstream, llm, client } = await setUp(name, { cost, settle }, { ...LIMITS, slots: 1 });
      upstream.tokensOf = () => 480;
      const answers = await clock.drive(
        llm,
        repeat(4, () => client[method]!()),
      );
      expect(answers).toHaveLength(4);
      expect(upstream.refused).toBe(0);
      // The first two requests use 960 of 1,000 tokens, and the estimate is 100.
      expect(upstream.arrivals).toEqual([0, 0, 60, 60]);
      expect(llm.levels.tokens).toBe(40);
      expectNothingHeld(llm);
    });

    test('an abort gives back the slot', async () => {
      const { clock, upstream, llm, client } = await setUp(name, { cost, settle });
      upstream.stallsAt = method === 'stream' ? 'stream' : 'headers';
      const controller = new AbortController();
      const answer = client[method]!(controller.signal);
      answer.catch(() => {});
      await expect.poll(() => [upstream.active, llm.active]).toEqual([1, 1]);
      upstream.stallsAt = undefined;
      controller.abort();
      await expect(answer).rejects.toThrow();
      await expect.poll(() => [upstream.active, llm.active]).toEqual([0, 0]);
      expect(await clock.drive(llm, client[method]!())).toBe(ANSWER);
      expectNothingHeld(llm);
    });
  });

  test('with learn, the tokens that another program uses draw no refusal', async () => {
    const { clock, upstream, llm, client } = await setUp(name, { cost, settle, learn: true });
    upstream.tokensOf = () => ESTIMATE;
    const other = modelRecipes[name]!(new Throttle(Infinity, LIMITS.slots), upstream.url);
    await repeat(6, () => other.send());
    const answers = await clock.drive(
      llm,
      repeat(6, () => client.send()),
    );
    expect(answers).toEqual(Array.from({ length: 6 }, () => ANSWER));
    expect(upstream.refused).toBe(0);
    // The first four requests use what the other program has left.
    expect(upstream.arrivals.slice(6)).toEqual([0, 0, 0, 0, 60, 60]);
    expectNothingHeld(llm);
  });
});

// Leaving a stream of the AI SDK does not end its request: only its signal does.
test.each(Object.keys(modelRecipes).filter((name) => name !== 'ai'))(
  '%s: a caller that leaves a stream early ends settle and frees the slot',
  async (name) => {
    const { clock, upstream, llm, client } = await setUp(name, { cost, settle });
    upstream.stallsAt = 'stream';
    await client.peek!();
    await expect.poll(() => [upstream.active, llm.active]).toEqual([0, 0]);
    // The estimate stays, because nobody knows the true number.
    expect(llm.levels.tokens).toBe(LIMITS.tokens - ESTIMATE);
    upstream.stallsAt = undefined;
    expect(await clock.drive(llm, client.send())).toBe(ANSWER);
  },
);
