/**
 * The type of a limited `fetch` fits every client without a cast. This file is not run: `npm run check:types` and
 * `compilers.test.ts` compile it, and fail where an expected error is missing.
 */
import { createOpenAI } from '@ai-sdk/openai';
import Anthropic from '@anthropic-ai/sdk';
import { Octokit } from '@octokit/core';
import axios from 'axios';
import { KeyedThrottle, Throttle } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import ky from 'ky';
import nodeFetch, { type Response as NodeFetchResponse } from 'node-fetch';
import OpenAI from 'openai';
import { Agent, fetch as undiciFetch, type Response as UndiciResponse } from 'undici';
import { expectTypeOf } from 'vitest';

declare function use(...clients: unknown[]): void;
const [apiKey, baseURL] = ['secret', 'https://api.example.com'];

for (const limitedFetch of [throttledFetch(new Throttle(1)), throttledFetch(new KeyedThrottle(1))]) {
  expectTypeOf(limitedFetch).toEqualTypeOf<typeof fetch>();
  use(
    new OpenAI({ apiKey, fetch: limitedFetch, maxRetries: 0, timeout: 2_147_483_647 }),
    new Anthropic({ apiKey, fetch: limitedFetch, maxRetries: 0, timeout: 2_147_483_647 }),
    createOpenAI({ apiKey, fetch: limitedFetch }),
    new Octokit({ baseUrl: baseURL, request: { fetch: limitedFetch } }),
    ky.create({ fetch: limitedFetch, retry: 0, timeout: false }),
    axios.create({ adapter: 'fetch', env: { fetch: limitedFetch } }),
  );
}

// The clients do not take anything: a function of another type is an error.
const wrongFetch = (input: number): Promise<Response> => Promise.reject(new Error(`${input}`));
use(
  // @ts-expect-error the input is a number
  new OpenAI({ apiKey, fetch: wrongFetch }),
  // @ts-expect-error the input is a number
  new Anthropic({ apiKey, fetch: wrongFetch }),
  // @ts-expect-error the input is a number
  createOpenAI({ apiKey, fetch: wrongFetch }),
  // @ts-expect-error the input is a number
  ky.create({ fetch: wrongFetch }),
  // @ts-expect-error the input is a number
  axios.create({ adapter: 'fetch', env: { fetch: wrongFetch } }),
);

// A fetch with types of its own keeps them.
const limitedUndici = throttledFetch(new Throttle(1), { fetch: undiciFetch });
expectTypeOf(limitedUndici).toEqualTypeOf<typeof undiciFetch>();
expectTypeOf(limitedUndici(baseURL, { dispatcher: new Agent() })).resolves.toEqualTypeOf<UndiciResponse>();
const limitedNodeFetch = throttledFetch(new Throttle(1), { fetch: nodeFetch });
expectTypeOf(limitedNodeFetch(baseURL, { follow: 3 })).resolves.toEqualTypeOf<NodeFetchResponse>();

// The costs, and the permit that is settled, have the names of the gate's rates.
const llm = new Throttle(500, 20, 60, { also: [{ name: 'tokens', capacity: 200_000, period: 60 }] });
const settled = throttledFetch(llm, {
  cost: async (input, init) => ({ tokens: (await new Request(input, init).text()).length }),
  settle: async (response, permit) => permit.settle({ tokens: (await response.text()).length }),
});
use(new OpenAI({ apiKey, fetch: settled }), new Anthropic({ apiKey, fetch: settled }));
// @ts-expect-error an unknown name
throttledFetch(llm, { cost: { tokns: 1 } });
