/**
 * The recipes of the chapter on fetch: for each client of an API, how it gets a limited `fetch`, with its own retries
 * and its own timeout off. A test compares them with the table of that chapter.
 */
import { createOpenAI } from '@ai-sdk/openai';
import Anthropic from '@anthropic-ai/sdk';
import { Octokit } from '@octokit/core';
import { generateText, streamText } from 'ai';
import axios from 'axios';
import type { Gate } from 'headgate';
import { anthropic, github, openai, throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import ky, { isHTTPError } from 'ky';
import nodeFetch from 'node-fetch';
import OpenAI from 'openai';
import { fetch as undiciFetch } from 'undici';

export interface Options extends Pick<ThrottledFetchOptions, 'clock' | 'timeout' | 'wait'> {
  /** The presets of the APIs learn, unless this is `undefined`. */
  readonly learn?: true | undefined;
}
/** The options for the APIs of language models. */
export type ModelOptions = Pick<ThrottledFetchOptions, 'clock' | 'cost' | 'learn' | 'settle'>;

/** A client that sends one request and returns the text of the answer. */
export interface Client {
  send(signal?: AbortSignal): Promise<string>;
  /** Reads the answer in parts. */
  stream?(signal?: AbortSignal): Promise<string>;
  /** Reads the first part of an answer, and leaves the rest, which ends the request. */
  peek?(): Promise<void>;
}

/** Creates a client of the API at `baseURL`, whose requests wait for `gate`. */
export type Recipe<O = Options> = (gate: Gate, baseURL: string, options?: O) => Client;

const apiKey = 'secret';
const messages = [{ role: 'user' as const, content: 'Count to three.' }];

async function join(parts: AsyncIterable<string | undefined>): Promise<string> {
  let text = '';
  for await (const part of parts) text += part ?? '';
  return text;
}

/** The text of a body in parts, whichever kind of stream the client returns. */
async function readBody(body: unknown): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const part of body as AsyncIterable<Uint8Array>) text += decoder.decode(part, { stream: true });
  return text;
}

/** Reads the first part of a stream, and leaves the loop. */
async function readFirst(parts: unknown): Promise<void> {
  for await (const _ of parts as AsyncIterable<unknown>) return;
}

/** Reads the answer as JSON. A response with an error must be read too, because its body holds the slot. */
async function readText(response: { readonly status: number; json(): Promise<unknown> }): Promise<string> {
  const { text } = (await response.json()) as { text: string };
  return checkStatus(response) && text;
}

/** Throws an error for a refusal, as a caller of `fetch` does. */
function checkStatus(response: { readonly status: number }): true {
  if (response.status === 200) return true;
  throw Object.assign(new Error(`status ${response.status}`), { status: response.status });
}

/** ky leaves the body of an error unread, and the body holds the slot. */
const cancelBody = async (error: unknown): Promise<never> => {
  if (isHTTPError(error)) await error.response.body?.cancel();
  throw error;
};

const signalOf = (signal: AbortSignal | undefined): { signal?: AbortSignal } =>
  signal === undefined ? {} : { signal };

export const modelRecipes: Readonly<Record<string, Recipe<ModelOptions>>> = {
  openai(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { ...openai, hold: 'body', ...options });
    const client = new OpenAI({
      baseURL: `${baseURL}/v1`,
      apiKey,
      fetch: limitedFetch,
      maxRetries: 0,
      timeout: 2_147_483_647,
    });
    const request = { model: 'gpt-5', messages, max_completion_tokens: 100 };
    const streamed = { ...request, stream: true, stream_options: { include_usage: true } } as const;
    return {
      async send(signal) {
        const answer = await client.chat.completions.create(request, signalOf(signal));
        return answer.choices[0]?.message.content ?? '';
      },
      async stream(signal) {
        const chunks = await client.chat.completions.create(streamed, signalOf(signal));
        let text = '';
        for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? '';
        // The client stops without an error when its stream is aborted.
        signal?.throwIfAborted();
        return text;
      },
      peek: async () => readFirst(await client.chat.completions.create(streamed)),
    };
  },

  '@anthropic-ai/sdk'(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { ...anthropic, hold: 'body', ...options });
    const client = new Anthropic({ baseURL, apiKey, fetch: limitedFetch, maxRetries: 0, timeout: 2_147_483_647 });
    const request = { model: 'claude', messages, max_tokens: 100 };
    return {
      async send(signal) {
        const { content } = await client.messages.create(request, signalOf(signal));
        return content.map((block) => (block.type === 'text' ? block.text : '')).join('');
      },
      async stream(signal) {
        const events = await client.messages.create({ ...request, stream: true }, signalOf(signal));
        let text = '';
        for await (const event of events)
          if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') text += event.delta.text;
        // The client stops without an error when its stream is aborted.
        signal?.throwIfAborted();
        return text;
      },
      peek: async () => readFirst(await client.messages.create({ ...request, stream: true })),
    };
  },

  ai(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { ...openai, hold: 'body', ...options });
    const provider = createOpenAI({ baseURL: `${baseURL}/v1`, apiKey, fetch: limitedFetch });
    const request = { model: provider.chat('gpt-4.1'), prompt: 'Count to three.', maxOutputTokens: 100, maxRetries: 0 };
    return {
      async send(signal) {
        return (await generateText({ ...request, ...abortSignalOf(signal) })).text;
      },
      async stream(signal) {
        let failure: unknown;
        const { textStream } = streamText({
          ...request,
          ...abortSignalOf(signal),
          onError: ({ error }) => void (failure = error),
        });
        const text = await join(textStream);
        signal?.throwIfAborted();
        if (failure !== undefined) throw failure;
        return text;
      },
    };
  },
};

export const recipes: Readonly<Record<string, Recipe>> = {
  ...modelRecipes,

  '@octokit/core'(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { ...github, hold: 'body', ...options });
    const octokit = new Octokit({ baseUrl: baseURL, request: { fetch: limitedFetch } });
    return {
      async send(signal) {
        const { data } = await octokit.request('GET /repos/{owner}/{repo}', {
          owner: 'nodejs',
          repo: 'node',
          request: signalOf(signal),
        });
        return data.description ?? '';
      },
    };
  },

  ky(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { hold: 'body', ...options });
    const client = ky.create({ fetch: limitedFetch, retry: 0, timeout: false });
    return {
      async send(signal) {
        const { text } = await client<{ text: string }>(`${baseURL}/items`, signalOf(signal)).json().catch(cancelBody);
        return text;
      },
      stream: async (signal) => readBody((await client(`${baseURL}/items?stream`, signalOf(signal))).body),
      peek: async () => readFirst((await client(`${baseURL}/items?stream`)).body),
    };
  },

  axios(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { hold: 'body', ...options });
    const client = axios.create({ adapter: 'fetch', env: { fetch: limitedFetch } });
    return {
      send: async (signal) => (await client.get<{ text: string }>(`${baseURL}/items`, signalOf(signal))).data.text,
      stream: async (signal) =>
        readBody(
          (await client.get<unknown>(`${baseURL}/items?stream`, { responseType: 'stream', ...signalOf(signal) })).data,
        ),
      peek: async () =>
        readFirst((await client.get<unknown>(`${baseURL}/items?stream`, { responseType: 'stream' })).data),
    };
  },

  undici(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { fetch: undiciFetch, hold: 'body', ...options });
    return {
      send: async (signal) => readText(await limitedFetch(`${baseURL}/items`, signalOf(signal))),
      stream: async (signal) => readBody((await limitedFetch(`${baseURL}/items?stream`, signalOf(signal))).body),
      peek: async () => readFirst((await limitedFetch(`${baseURL}/items?stream`)).body),
    };
  },

  'node-fetch'(gate, baseURL, options) {
    const limitedFetch = throttledFetch(gate, { fetch: nodeFetch, hold: 'body', ...options });
    return {
      send: async (signal) => readText(await limitedFetch(`${baseURL}/items`, signalOf(signal))),
      stream: async (signal) => readBody((await limitedFetch(`${baseURL}/items?stream`, signalOf(signal))).body),
      peek: async () => readFirst((await limitedFetch(`${baseURL}/items?stream`)).body),
    };
  },
};

function abortSignalOf(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}
