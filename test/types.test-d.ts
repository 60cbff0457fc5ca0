/**
 * Valid and invalid uses of the types. This file never runs: `npm run check:types` compiles it, and fails if an
 * expected type error is missing.
 */
import type { IncomingMessage } from 'node:http';
import type {
  Clock,
  Gate,
  KeyedGate,
  Limits,
  Permit,
  ResourcesPermit,
  ThrottlePermit,
  Resources,
  ServerBusyError,
  ThrottleError,
  ThrottleTimeoutError,
} from 'headgate';
import { KeyedThrottle, Limiter, Resource, Throttle } from 'headgate';
import { readWait, throttledFetch } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import nodeFetch from 'node-fetch';
import { Agent, type Dispatcher, fetch as undiciFetch } from 'undici';
import { expectTypeOf } from 'vitest';

const throttle = new Throttle(10, 2, 1, { burst: 5, maxQueue: 3, clock: new ManualClock(), name: 'api' });

// Options: undefined is accepted even with exactOptionalPropertyTypes, and a misspelled option is an error.
void new Throttle(10, undefined, undefined, {
  burst: undefined,
  maxQueue: undefined,
  clock: undefined,
  name: undefined,
});
// @ts-expect-error capacity is required
void new Throttle();

// One object with all settings
expectTypeOf(new Throttle({ concurrency: 5 })).toEqualTypeOf<Throttle>();
void new Throttle({ capacity: undefined, concurrency: undefined, period: undefined, burst: undefined });
// @ts-expect-error a misspelled setting
void new Throttle({ capactiy: 5 });
// @ts-expect-error a setting of the wrong type
void new Throttle({ capacity: '5' });
// @ts-expect-error one object stands alone
void new Throttle({ capacity: 10 }, 2);
// @ts-expect-error only a keyed throttle has maxKeys
void new Throttle({ maxKeys: 5 });
expectTypeOf(new KeyedThrottle({ concurrency: 5, maxKeys: 5 })).toEqualTypeOf<KeyedThrottle>();
// @ts-expect-error a misspelled setting
void new KeyedThrottle({ maxKey: 5 });
// @ts-expect-error capacity is a number
void new Throttle('10');
// @ts-expect-error a misspelled option
void new Throttle(10, 2, 1, { bursts: 5 });
// @ts-expect-error a clock has two methods
void new Throttle(10, 2, 1, { clock: { now: () => 0 } });

// acquire and tryAcquire
expectTypeOf(throttle.acquire()).toEqualTypeOf<Promise<ThrottlePermit<never>>>();
expectTypeOf(throttle.acquire(2, { signal: undefined, timeout: undefined })).toEqualTypeOf<
  Promise<ThrottlePermit<never>>
>();
expectTypeOf(throttle.tryAcquire(2)).toEqualTypeOf<ThrottlePermit<never> | undefined>();
// @ts-expect-error tryAcquire takes no options
throttle.tryAcquire(1, { timeout: 3 });
// @ts-expect-error a signal is an AbortSignal
void throttle.acquire(1, { signal: new AbortController() });
// @ts-expect-error the permit may be undefined
throttle.tryAcquire().release();

// run: the awaited result of the function
expectTypeOf(throttle.run(() => 1)).toEqualTypeOf<Promise<number>>();
expectTypeOf(throttle.run(async () => 'text')).toEqualTypeOf<Promise<string>>();
expectTypeOf(throttle.run((permit) => permit.waited, 2, { timeout: 3 })).toEqualTypeOf<Promise<number>>();
// @ts-expect-error run takes a function, not a promise
void throttle.run(fetch('https://example.com'));
// @ts-expect-error the permit is the only argument
void throttle.run((permit: Permit, index: number) => index);

// wrap: keeps parameters, `this` and result
const wrapped = throttle.wrap(
  function (this: { prefix: string }, name: string, times?: number) {
    return Promise.resolve(`${this.prefix}${name}`.repeat(times ?? 1));
  },
  (name, times) => name.length * (times ?? 1),
);
const typed: (this: { prefix: string }, name: string, times?: number) => Promise<string> = wrapped;
void typed;
void wrapped.call({ prefix: '>' }, 'a', 2);
// @ts-expect-error the wrong this
void wrapped.call({}, 'a');
// @ts-expect-error the wrong argument
void wrapped.call({ prefix: '>' }, 1);
const echo = (name: string): string => name;
// @ts-expect-error a cost function receives the arguments of the call
throttle.wrap(echo, (name: number) => name);
expectTypeOf(throttle.wrap((n: number) => n)).toEqualTypeOf<(this: unknown, n: number) => Promise<number>>();

// map: items of all kinds, results in order
expectTypeOf(throttle.map([1, 2], (item, index) => `${item + index}`)).toEqualTypeOf<Promise<string[]>>();
expectTypeOf(throttle.map(new Set(['a']), async (item) => item.length)).toEqualTypeOf<Promise<number[]>>();
declare const stream: AsyncIterable<{ size: number }>;
expectTypeOf(throttle.map(stream, (item) => item, { cost: (item) => item.size })).toEqualTypeOf<
  Promise<{ size: number }[]>
>();
// @ts-expect-error not iterable
void throttle.map(5, () => 1);
// @ts-expect-error a cost function receives the item
void throttle.map([1], () => 1, { cost: (item: string) => item.length });

// Permits and throttles work with `using`.
async function blocks(): Promise<void> {
  using first = await throttle.acquire();
  await using second = await throttle.acquire();
  await using whole = throttle;
  expectTypeOf(first.released).toEqualTypeOf<boolean>();
  expectTypeOf(second.cost).toEqualTypeOf<number>();
  // @ts-expect-error read only
  second.cost = 3;
  // @ts-expect-error a getter: configure() changes it
  whole.capacity = 5;
  // @ts-expect-error a throttle closes asynchronously: `await using`
  using sync = throttle;
  void sync;
}
void blocks;

expectTypeOf(throttle.configure).parameter(0).toEqualTypeOf<Limits>();
// @ts-expect-error a misspelled limit
throttle.configure({ cap: 5 });
expectTypeOf(throttle.name).toEqualTypeOf<string | undefined>();
expectTypeOf<ThrottleTimeoutError>().toExtend<ThrottleError>();
expectTypeOf<ThrottleError['retryAfter']>().toEqualTypeOf<number | undefined>();
expectTypeOf<ManualClock>().toExtend<Clock>();

// Gates: any object with the six methods is a gate, and so are all gates of this package.
expectTypeOf<Throttle>().toExtend<Gate>();
expectTypeOf<Resource>().toExtend<Gate>();
expectTypeOf<Resources>().toExtend<Gate>();
expectTypeOf<KeyedThrottle>().toExtend<KeyedGate>();
expectTypeOf<KeyedThrottle<number>>().toExtend<KeyedGate<number>>();
// @ts-expect-error a keyed gate is not a gate
void ((keyed: KeyedThrottle): Gate => keyed);
// @ts-expect-error a gate is not a keyed gate
void ((gate: Throttle): KeyedGate => gate);

// Keys: a string by default
const keyed = new KeyedThrottle<number>(10, 2, 1, { maxKeys: 5, burst: 3 });
expectTypeOf(keyed.run(5, (permit) => permit.cost)).toEqualTypeOf<Promise<number>>();
expectTypeOf(keyed.tryAcquire(5)).toEqualTypeOf<ThrottlePermit<never> | undefined>();
expectTypeOf(keyed.peek(5)).toEqualTypeOf<Throttle | undefined>();
// @ts-expect-error the key has another type
void keyed.acquire('5');
// @ts-expect-error the key comes first
void new KeyedThrottle(1).run(() => 1);

// Rates
void new Throttle(1, 0, 1, {
  window: 'sliding',
  margin: 1,
  also: [{ capacity: 1 }, { capacity: 1, period: 2, window: 'sliding' }],
});
// @ts-expect-error the only kind of window is sliding
void new Throttle(1, 0, 1, { window: 'fixed' });
// @ts-expect-error a rate has a capacity
void new Throttle(1, 0, 1, { also: [{ period: 1 }] });

// Limiter: keeps parameters, `this` and result, and requires both options
const limiter = new Limiter({ timeout: 1, resources: [throttle, new Resource(1)] });
// @ts-expect-error timeout is required
void new Limiter({ resources: [] });
// @ts-expect-error a limiter takes gates, not keyed gates
void new Limiter({ timeout: 1, resources: [keyed] });
const limited = limiter.resources([throttle])(function (this: { prefix: string }, name: string, times?: number) {
  return `${this.prefix}${name}`.repeat(times ?? 1);
});
const kept: (this: { prefix: string }, name: string, times?: number) => Promise<string> = limited;
void kept;
// @ts-expect-error the wrong argument
void limited.call({ prefix: '>' }, 1);
class Reports {
  prefix = '>';

  @limiter.resources([throttle])
  async write(name: string): Promise<string> {
    return `${this.prefix}${name}`;
  }

  // @ts-expect-error a decorated method becomes asynchronous
  @limiter.resources([throttle])
  now(): number {
    return 1;
  }

  // @ts-expect-error the decorator accepts methods, not getters
  @limiter.resources([throttle])
  get title(): string {
    return '';
  }
}
expectTypeOf(new Reports().write('a')).toEqualTypeOf<Promise<string>>();
expectTypeOf(limiter.acquire([throttle], { timeout: 1 })).toEqualTypeOf<Promise<ResourcesPermit>>();
expectTypeOf<ServerBusyError>().toExtend<ThrottleTimeoutError>();
expectTypeOf<ServerBusyError['status']>().toEqualTypeOf<503>();

// fetch: exactly the type of fetch, and `key` only for keys of that type
expectTypeOf(throttledFetch(throttle)).toEqualTypeOf<typeof globalThis.fetch>();
expectTypeOf(throttledFetch(new KeyedThrottle(1))).toEqualTypeOf<typeof globalThis.fetch>();
void throttledFetch(keyed, { key: () => 5 });
// @ts-expect-error the default key is a string, and the keys are numbers
void throttledFetch(keyed);
// @ts-expect-error there is no such option
void throttledFetch(throttle, { retry: 5 });

// fetch of other clients: no cast is needed, and the result keeps the types of the client
const throughUndici = throttledFetch(throttle, { fetch: undiciFetch });
expectTypeOf(throughUndici).toEqualTypeOf<typeof undiciFetch>();
void throughUndici('https://example.com', { dispatcher: new Agent() });
const throughNodeFetch = throttledFetch(new KeyedThrottle(1), {
  fetch: nodeFetch,
  hold: 'body',
  refusal: (response) => response.size === 0,
});
expectTypeOf(throughNodeFetch).toEqualTypeOf<typeof nodeFetch>();
void throughNodeFetch('https://example.com', { agent: false }).then(({ body }) => body?.pipe);
expectTypeOf(
  throttledFetch(keyed, { fetch: undiciFetch, key: (input, init) => (init?.dispatcher && input ? 1 : 2) }),
).toEqualTypeOf<typeof undiciFetch>();
expectTypeOf(
  throttledFetch(throttle, {
    fetch: async (input, init) =>
      new Response(`${init?.method} ${input instanceof Request ? input.url : input.toString()}`),
  }),
).toEqualTypeOf<typeof globalThis.fetch>();
void throttledFetch(throttle, { fetch: globalThis.fetch, cost: (input, init) => (init && input ? 1 : 2) });
// @ts-expect-error an option of undici, not of the global fetch
void throttledFetch(throttle)('https://example.com', { dispatcher: new Agent() });
// @ts-expect-error a fetch returns a promise of a response
void throttledFetch(throttle, { fetch: async () => 'ok' });
// @ts-expect-error the keys are numbers
void throttledFetch(keyed, { fetch: undiciFetch, key: () => 'a' });

// refusal: a boolean, seconds or undefined, or a promise of one
void throttledFetch(throttle, {
  refusal: ({ status }, { url, method, headers }) =>
    status === 403 ? url === '' || method === 'GET' || headers.has('x') : undefined,
});
void throttledFetch(throttle, {
  refusal: async (response) => ((await response.clone().text()) === '' ? 5 : undefined),
});
// @ts-expect-error a string is not a valid result
void throttledFetch(throttle, { refusal: () => 'yes' });

// readWait: the headers of every client
expectTypeOf(readWait(new Headers())).toEqualTypeOf<number | undefined>();
declare const message: IncomingMessage;
readWait(message.headers, Date.now());
readWait(message.rawHeaders);
readWait(message.headersDistinct);
declare const dispatched: Dispatcher.ResponseData;
readWait(dispatched.headers);
void nodeFetch('https://example.com').then(({ headers }) => readWait(headers));
void undiciFetch('https://example.com').then(({ headers }) => readWait(headers));
// @ts-expect-error all headers, not one value
readWait('30');
// @ts-expect-error an instant is a number
readWait(new Headers(), new Date());
