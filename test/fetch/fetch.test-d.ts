/** The types of the options: the names of the rates, and the `fetch` of other clients. Only compiled, never run. */
import { type Gate, type KeyedGate, KeyedThrottle, type Permit, Throttle } from 'headgate';
import { anthropic, github, openai, throttledFetch, type ThrottledFetchOptions } from 'headgate/fetch';
import nodeFetch from 'node-fetch';
import { fetch as undiciFetch } from 'undici';
import { expectTypeOf } from 'vitest';

const also = [{ name: 'tokens', capacity: 200_000, period: 60 }] as const;
const llm = new Throttle(500, 20, 60, { also: [{ name: 'tokens', capacity: 200_000, period: 60 }] });
const keyed = new KeyedThrottle<string, 'tokens'>(500, 20, 60, { also: [...also] });
const byNumber = new KeyedThrottle<number, 'tokens'>(500, 20, 60, { also: [...also] });
const plain = new Throttle(10);

// cost: the names of the gate
expectTypeOf(throttledFetch(llm, { cost: { tokens: 4_000 } })).toEqualTypeOf<typeof globalThis.fetch>();
void throttledFetch(llm, { cost: { tokens: 4_000, cost: 2 } });
void throttledFetch(llm, { cost: 5 });
void throttledFetch(llm, { cost: () => ({ tokens: 4_000 }) });
void throttledFetch(llm, { cost: async (input, init) => ({ tokens: input instanceof Request && init ? 1 : 2 }) });
void throttledFetch(keyed, { cost: { tokens: 4_000 } });
void throttledFetch(byNumber, { key: 5, cost: { tokens: 4_000 } });
void throttledFetch(plain, { cost: { cost: 2 } });
// @ts-expect-error the rate is named `tokens`
void throttledFetch(llm, { cost: { tokns: 1 } });
// @ts-expect-error the rate is named `tokens`
void throttledFetch(keyed, { cost: { tokns: 1 } });
// @ts-expect-error the rate is named `tokens`
void throttledFetch(byNumber, { key: 5, cost: { tokns: 1 } });
// @ts-expect-error the throttle has no named rate
void throttledFetch(plain, { cost: { tokens: 1 } });
// @ts-expect-error a string is no cost
void throttledFetch(llm, { cost: async () => '5' });

// a gate of a user accepts any name, and a gate that is only known as an interface, too
declare const gate: Gate;
declare const keyedGate: KeyedGate;
void throttledFetch(gate, { cost: { anything: 1 } });
void throttledFetch(keyedGate, { cost: { anything: 1 } });
declare const either: Gate | KeyedGate;
void throttledFetch(either, { cost: { anything: 1 } });

// settle and learn: the permit and the levels have the names of the gate, the response is that of the client
void throttledFetch(llm, {
  settle(response, permit) {
    expectTypeOf(response).toEqualTypeOf<Response>();
    expectTypeOf(permit).toEqualTypeOf<Permit<'tokens'>>();
    permit.settle({ tokens: 5 });
    // @ts-expect-error the rate is named `tokens`
    permit.settle({ tokns: 5 });
  },
  learn: ({ headers }) => (headers.has('x-left') ? { tokens: Number(headers.get('x-left')) } : undefined),
});
void throttledFetch(llm, { settle: async (response, permit) => permit.settle((await response.json()) as number) });
// @ts-expect-error the rate is named `tokens`
void throttledFetch(llm, { learn: () => ({ tokns: 1 }) });
// @ts-expect-error `false` is the default: leave the option out
void throttledFetch(llm, { learn: false });
void throttledFetch(llm, {
  fetch: undiciFetch,
  cost: async (input, init) => ({ tokens: init?.dispatcher && input ? 1 : 2 }),
  settle: async (response, permit) => {
    expectTypeOf(response).toEqualTypeOf<Awaited<ReturnType<typeof undiciFetch>>>();
    permit.settle({ tokens: (await response.text()).length });
  },
});
expectTypeOf(
  throttledFetch(byNumber, { key: 5, fetch: nodeFetch, cost: { tokens: 1 }, settle: ({ size }, p) => p.settle(size) }),
).toEqualTypeOf<typeof nodeFetch>();

// presets: for every client, and later options win
expectTypeOf(throttledFetch(llm, { ...openai, cost: { tokens: 1 } })).toEqualTypeOf<typeof globalThis.fetch>();
expectTypeOf(throttledFetch(llm, { ...anthropic, fetch: undiciFetch })).toEqualTypeOf<typeof undiciFetch>();
expectTypeOf(throttledFetch(keyed, { ...github, fetch: nodeFetch })).toEqualTypeOf<typeof nodeFetch>();
void throttledFetch(llm, { ...openai, learn: undefined, wait: 5, timeout: 60, refundRefused: false });

// skip: a boolean, or a promise of one
void throttledFetch(llm, { skip: ({ url }) => url.endsWith('/health') });
void throttledFetch(llm, { skip: async ({ method }) => method === 'HEAD' });
// @ts-expect-error a string is no boolean
void throttledFetch(llm, { skip: ({ url }) => url });

// options that are stored in a variable
const options: ThrottledFetchOptions<string, typeof globalThis.fetch, 'tokens'> = { cost: { tokens: 1 }, wait: 5 };
void throttledFetch(llm, options);
