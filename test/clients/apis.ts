/**
 * The shapes of the APIs that the local server imitates: answers, streams, fields and refusals, as the documentation of
 * each API shows them.
 */
import type { Limits } from './upstream-server.js';

/** The part of a request's body that decides what it costs and how it is answered. */
export interface RequestBody {
  readonly stream?: boolean;
  readonly max_tokens?: number;
  readonly max_completion_tokens?: number;
  readonly stream_options?: { readonly include_usage?: boolean };
}

/** A request, and what the server's window says about it. */
export interface Call {
  readonly limits: Limits;
  readonly number: number;
  readonly body: RequestBody;
  /** The true number of tokens. */
  readonly tokens: number;
  readonly remainingRequests: number;
  readonly remainingTokens: number;
  /** Seconds until the oldest request leaves the window. */
  readonly reset: number;
}

export interface Api {
  readonly path: RegExp;
  /** The tokens that the server reserves when a request arrives. */
  readonly estimate: (body: RequestBody) => number;
  readonly headers: (call: Call) => Record<string, string>;
  readonly answer: (call: Call) => string;
  readonly stream: (call: Call) => string[];
  readonly refuse: (
    call: Call,
    wait: number,
  ) => { readonly status: number; readonly headers: Record<string, string>; readonly answer: string };
}

/** The text of every answer: one word for each event of a stream. */
const WORDS = ['one ', 'two ', 'three'] as const;
export const ANSWER: string = WORDS.join('');
/** The tokens that a model counts for the prompt. All others are output. */
const PROMPT = 10;

const maxTokens = ({ max_completion_tokens, max_tokens }: RequestBody): number =>
  max_completion_tokens ?? max_tokens ?? 100;
const data = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;
const event = (value: { readonly type: string }): string => `event: ${value.type}\n${data(value)}`;
const whole = (count: number): string => String(Math.max(0, Math.floor(count)));

/** OpenAI: https://platform.openai.com/docs/guides/rate-limits */
const openai: Api = {
  path: /^\/v1\/chat\/completions$/,
  estimate: maxTokens,
  headers: ({ limits: { requests, tokens = 1e6 }, remainingRequests, remainingTokens, reset }) => ({
    'x-ratelimit-limit-requests': String(requests),
    'x-ratelimit-limit-tokens': String(tokens),
    'x-ratelimit-remaining-requests': whole(remainingRequests),
    'x-ratelimit-remaining-tokens': whole(Math.min(remainingTokens, tokens)),
    'x-ratelimit-reset-requests': `${Math.ceil(reset * 1000)}ms`,
    'x-ratelimit-reset-tokens': `${Math.floor(reset / 60)}m${(reset % 60).toFixed(3)}s`,
  }),
  answer: (call) =>
    JSON.stringify({
      ...openaiBase(call),
      object: 'chat.completion',
      choices: [{ index: 0, message: { role: 'assistant', content: ANSWER, refusal: null }, finish_reason: 'stop' }],
      usage: openaiUsage(call),
    }),
  stream: (call) => {
    const chunk = (delta: object, finish_reason: string | null): string =>
      data({
        ...openaiBase(call),
        object: 'chat.completion.chunk',
        choices: [{ index: 0, delta, logprobs: null, finish_reason }],
      });
    const last = { ...openaiBase(call), object: 'chat.completion.chunk', choices: [], usage: openaiUsage(call) };
    return [
      chunk({ role: 'assistant', content: '' }, null),
      ...WORDS.map((content) => chunk({ content }, null)),
      chunk({}, 'stop'),
      ...(call.body.stream_options?.include_usage === true ? [data(last)] : []),
      'data: [DONE]\n\n',
    ];
  },
  refuse: (call, wait) => ({
    status: 429,
    headers: {
      ...openai.headers(call),
      'retry-after': String(Math.ceil(wait)),
      'retry-after-ms': String(Math.ceil(wait * 1000)),
    },
    answer: JSON.stringify({
      error: {
        message: `Rate limit reached for gpt-5 in organization org-1. Please try again in ${wait.toFixed(3)}s.`,
        type: call.remainingRequests < 1 ? 'requests' : 'tokens',
        param: null,
        code: 'rate_limit_exceeded',
      },
    }),
  }),
};
const openaiBase = ({ number }: Call): object => ({ id: `chatcmpl-${number}`, created: 1_790_000_000, model: 'gpt-5' });
const openaiUsage = ({ tokens }: Call): object => ({
  prompt_tokens: PROMPT,
  completion_tokens: tokens - PROMPT,
  total_tokens: tokens,
});

/** Anthropic: https://docs.anthropic.com/en/api/rate-limits and https://docs.anthropic.com/en/api/errors */
const anthropic: Api = {
  path: /^\/v1\/messages$/,
  estimate: maxTokens,
  headers: ({ limits: { requests, tokens = 1e6 }, remainingRequests, remainingTokens, reset }) => {
    const instant = new Date(Date.now() + reset * 1000).toISOString();
    const quota = (name: string, limit: number, remaining: number): Record<string, string> => ({
      [`anthropic-ratelimit-${name}-limit`]: String(limit),
      [`anthropic-ratelimit-${name}-remaining`]: whole(Math.min(remaining, limit)),
      [`anthropic-ratelimit-${name}-reset`]: instant,
    });
    return {
      'request-id': 'req_1',
      ...quota('requests', requests, remainingRequests),
      ...quota('tokens', tokens, remainingTokens),
    };
  },
  answer: (call) =>
    JSON.stringify({
      ...anthropicMessage(call, [{ type: 'text', text: ANSWER }], 'end_turn'),
      usage: { input_tokens: PROMPT, output_tokens: call.tokens - PROMPT },
    }),
  stream: (call) =>
    [
      {
        type: 'message_start',
        message: {
          ...anthropicMessage(call, [], null),
          usage: { input_tokens: PROMPT, output_tokens: 1 },
        },
      },
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      { type: 'ping' },
      ...WORDS.map((text) => ({ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text } })),
      { type: 'content_block_stop', index: 0 },
      {
        type: 'message_delta',
        delta: { stop_reason: 'end_turn', stop_sequence: null },
        usage: { output_tokens: call.tokens - PROMPT },
      },
      { type: 'message_stop' },
    ].map(event),
  refuse: (call, wait) => ({
    status: 429,
    headers: { ...anthropic.headers(call), 'retry-after': String(Math.ceil(wait)) },
    answer: JSON.stringify({
      type: 'error',
      error: { type: 'rate_limit_error', message: 'This request would exceed the rate limit of your organization.' },
      request_id: 'req_1',
    }),
  }),
};
const anthropicMessage = ({ number }: Call, content: object[], stop_reason: string | null): object => ({
  id: `msg_${number}`,
  type: 'message',
  role: 'assistant',
  model: 'claude',
  content,
  stop_reason,
  stop_sequence: null,
});

/** GitHub: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api */
const github: Api = {
  path: /^\/repos\//,
  estimate: () => 0,
  headers: ({ limits: { requests }, remainingRequests, reset }) => ({
    'x-ratelimit-limit': String(requests),
    'x-ratelimit-remaining': whole(remainingRequests),
    'x-ratelimit-used': String(requests - Math.max(0, remainingRequests)),
    // Whole seconds, rounded up: the fields of `Date` and of the reset have no fractions.
    'x-ratelimit-reset': String(Math.floor(Date.now() / 1000) + Math.ceil(reset)),
    'x-ratelimit-resource': 'core',
  }),
  answer: ({ number }) => JSON.stringify({ id: number, full_name: 'nodejs/node', description: ANSWER }),
  stream: (call) => [github.answer(call)],
  // A used-up quota has no Retry-After and a remaining number of 0. A secondary limit has a Retry-After.
  refuse: (call, wait) => {
    const isPrimary = call.remainingRequests < 1;
    return {
      status: 403,
      headers: { ...github.headers(call), ...(isPrimary ? {} : { 'retry-after': String(Math.ceil(wait)) }) },
      answer: JSON.stringify({
        message: isPrimary
          ? 'API rate limit exceeded for user ID 1.'
          : 'You have exceeded a secondary rate limit. Please wait a few minutes before you try again.',
        documentation_url: 'https://docs.github.com/rest',
      }),
    };
  },
};

/** The fields of the IETF draft: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ */
const plain: Api = {
  path: /^\/items/,
  estimate: () => 0,
  headers: ({ limits: { requests, period }, remainingRequests, reset }) => ({
    'ratelimit-policy': `"default";q=${requests};w=${period}`,
    ratelimit: `"default";r=${whole(remainingRequests)};t=${Math.ceil(reset)}`,
  }),
  answer: () => JSON.stringify({ text: ANSWER }),
  stream: () => [...WORDS],
  refuse: (call, wait) => ({
    status: 429,
    headers: { ...plain.headers(call), 'retry-after': String(Math.ceil(wait)) },
    answer: JSON.stringify({ title: 'Too Many Requests', status: 429 }),
  }),
};

export const apis: readonly Api[] = [openai, anthropic, github, plain];
