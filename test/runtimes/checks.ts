/**
 * The promises of headgate, checked on every runtime: Node, Bun, Deno, workerd and a browser. This file imports only
 * the package, and needs no test framework. A capability that a runtime may lack is a feature: its check returns a
 * result, and the runner compares the result with the expected one.
 *
 * To add a check, add an entry to `checks`, at the end of this file.
 */
import {
  type Gate,
  KeyedThrottle,
  Limiter,
  type Permit,
  QueueFullError,
  Resource,
  ServerBusyError,
  Throttle,
  ThrottleClosedError,
  ThrottleError,
  type ThrottleMessages,
  ThrottleTimeoutError,
} from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { concurrencyLimit, web } from 'headgate/http';
import { instrument } from 'headgate/otel';
import { ManualClock, record, toSVG } from 'headgate/testing';

export interface Check {
  readonly name: string;
  /** Throws if the check fails. The check of a feature returns its result. */
  run(): Promise<string | void>;
}

export interface Outcome {
  readonly name: string;
  /** The result of a feature check. */
  readonly found?: string;
  /** The expected value and the received value. */
  readonly failure?: string;
}

/** The report of a script to its runner. */
export interface Report {
  /** The name that the runtime reports. */
  readonly agent: string;
  readonly outcomes: readonly Outcome[];
}

/** Every check takes less than two seconds. A check that takes longer waits for an event that never comes. */
const LIMIT_MS = 8_000;

const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, milliseconds));

const show = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) =>
    part instanceof Error
      ? `${part.name}: ${part.message}`
      : part === undefined || typeof part === 'function' || (typeof part === 'number' && !Number.isFinite(part))
        ? String(part)
        : part,
  );

/** Rounds to a microsecond, because instants are sums of fractions. */
const rounded = (seconds: number): number => Math.round(seconds * 1e6) / 1e6;

/** Each row is `[name, actual, expected]`. */
const expectAll = (...lines: readonly (readonly [what: string, actual: unknown, expected: unknown])[]): void => {
  const wrong = lines.filter(([, actual, expected]) => show(actual) !== show(expected));
  if (wrong.length > 0)
    throw new Error(
      wrong.map(([what, actual, expected]) => `${what}: expected ${show(expected)}, got ${show(actual)}`).join('; '),
    );
};

const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    (value) => `no error, but ${show(value)}`,
    (error: unknown) => error,
  );

/** The class, the code and the `retryAfter` of a refusal. */
const refusalOf = async (promise: Promise<unknown>): Promise<unknown[]> => {
  const error = await failureOf(promise);
  return error instanceof ThrottleError
    ? [error.constructor.name, error.code, error.retryAfter === undefined ? undefined : rounded(error.retryAfter)]
    : ['no ThrottleError', error];
};

/** Records the name and the instant of each grant, and releases the permit at once. */
const grantsOf = (gate: Gate, clock: ManualClock, costs: readonly number[]): [cost: number, at: number][] => {
  const grants: [number, number][] = [];
  for (const cost of costs) void gate.run(() => void grants.push([cost, rounded(clock.now())]), cost);
  return grants;
};

/** The modules of Node that Node, Bun, Deno and some workers have. */
interface Runtime {
  process?: {
    getBuiltinModule?: (name: string) => unknown;
    on?: (event: string, listener: (reason: unknown) => void) => void;
    versions?: Record<string, string>;
  };
  Bun?: { version: string };
  Deno?: { version: { deno: string } };
  navigator?: { userAgent: string };
  addEventListener?: (event: string, listener: (event: { reason: unknown; preventDefault(): void }) => void) => void;
}
const runtime = globalThis as Runtime;

interface Storage<T> {
  run<R>(store: T, fn: () => R): R;
  getStore(): T | undefined;
}

/** AsyncLocalStorage, if the runtime has it. */
const findStorage = async (): Promise<(new () => Storage<string>) | undefined> => {
  // Hidden from bundlers.
  const name = 'node:async_hooks';
  const found: unknown = runtime.process?.getBuiltinModule?.(name) ?? (await import(name).catch(() => undefined));
  return (found as { AsyncLocalStorage?: new () => Storage<string> } | undefined)?.AsyncLocalStorage;
};

const ON_PURPOSE = 'unhandled on purpose';
const unhandled: string[] = [];
const watchRejections = (): void => {
  const note = (reason: unknown): void =>
    void unhandled.push(reason instanceof Error ? reason.message : String(reason));
  if (runtime.addEventListener === undefined || runtime.Bun !== undefined)
    runtime.process?.on?.('unhandledRejection', note);
  else {
    runtime.addEventListener('unhandledrejection', (event) => {
      event.preventDefault();
      note(event.reason);
    });
  }
};

/** The name and the version that the runtime reports. */
export const agent = (): string => {
  if (runtime.Bun !== undefined) return `Bun ${runtime.Bun.version}`;
  if (runtime.Deno !== undefined) return `Deno ${runtime.Deno.version.deno}`;
  const userAgent = runtime.navigator?.userAgent ?? '';
  const node = runtime.process?.versions?.['node'];
  return node !== undefined && !userAgent.startsWith('Cloudflare') ? `Node ${node}` : userAgent;
};

export const checks: readonly Check[] = [
  {
    name: 'imports',
    async run() {
      // A bundle cannot resolve packages: the runner knows its contents.
      if (typeof import.meta.resolve !== 'function') return 'bundled';
      const entries: [specifier: string, file: string][] = [
        ['', 'index'],
        ['/fetch', 'fetch/index'],
        ['/http', 'http/index'],
        ['/otel', 'otel/index'],
        ['/redis', 'redis/index'],
        ['/testing', 'testing/index'],
      ];
      // The package must not resolve to the sources, through the `paths` of a tsconfig.json nearby.
      expectAll(
        ...entries.map(
          ([entry, file]) =>
            [
              `headgate${entry}`,
              /\/node_modules\/.*/.exec(import.meta.resolve(`headgate${entry}`))?.[0],
              `/node_modules/headgate/dist/${file}.js`,
            ] as const,
        ),
      );
      return 'resolved';
    },
  },
  {
    name: 'concurrency',
    async run() {
      const throttle = new Throttle(Infinity, 2);
      let most = 0;
      const results = await Promise.all(
        [1, 2, 3, 4, 5, 6].map((number) =>
          throttle.run(async () => {
            most = Math.max(most, throttle.active);
            await sleep(1);
            return number;
          }),
        ),
      );
      expectAll(
        ['most at a time', most, 2],
        ['results', results, [1, 2, 3, 4, 5, 6]],
        ['active in the end', throttle.active, 0],
      );
    },
  },
  {
    name: 'rate on a clock that stands still',
    async run() {
      const clock = new ManualClock();
      const throttle = new Throttle(10, 0, 1, { burst: 2, clock });
      const grants = grantsOf(throttle, clock, [1, 1, 1, 1, 1]);
      await clock.advance(0.05);
      expectAll(
        ['at once', grants.length, 2],
        ['waiting', throttle.waiting, 3],
        ['estimate', rounded(throttle.estimateWait()), 0.35],
        ['timers', clock.pending, 1],
      );
      await clock.advance(10);
      expectAll(
        ['instants', grants.map(([, at]) => at), [0, 0, 0.1, 0.2, 0.3]],
        ['tokens', throttle.tokens, 2],
        ['timers', clock.pending, 0],
      );
    },
  },
  {
    name: 'rate in real time',
    async run() {
      const throttle = new Throttle(50, 0, 1, { burst: 1 });
      const start = performance.now();
      let waited = 0;
      for (let count = 0; count < 6; count++) await throttle.run((permit) => void (waited += permit.waited));
      const seconds = (performance.now() - start) / 1000;
      // Browsers and workers have coarse clocks.
      expectAll(
        [`5 after the first take 0.1 s or more: ${seconds} s`, seconds >= 0.098, true],
        [`sum of waited: ${waited} s`, waited >= 0.08, true],
      );
    },
  },
  {
    name: 'first in, first out at any cost, and no call overtakes a waiter',
    async run() {
      const clock = new ManualClock();
      const throttle = new Throttle(10, 0, 1, { clock });
      throttle.tryAcquire(7);
      const grants = grantsOf(throttle, clock, [5, 1, 3, 1]);
      expectAll(
        ['tokens that would do', rounded(throttle.tokens), 3],
        ['tryAcquire', throttle.tryAcquire(1), undefined],
        [
          'timeout 0',
          await refusalOf(throttle.acquire(1, { timeout: 0 })),
          ['ThrottleTimeoutError', 'ERR_THROTTLE_TIMEOUT', 0.8],
        ],
      );
      await clock.advance(1);
      expectAll([
        'cost and instant',
        grants,
        [
          [5, 0.2],
          [1, 0.3],
          [3, 0.6],
          [1, 0.7],
        ],
      ]);
    },
  },
  {
    name: 'timeouts that are met and that cannot be met',
    async run() {
      const clock = new ManualClock();
      const slots = new Throttle(Infinity, 1, 1, { clock });
      const held = await slots.acquire();
      const late = refusalOf(slots.acquire(1, { timeout: 2 }));
      await clock.advance(1.999);
      expectAll(['waiting before it', slots.waiting, 1]);
      await clock.advance(0.001);
      expectAll(
        ['refusal', await late, ['ThrottleTimeoutError', 'ERR_THROTTLE_TIMEOUT', undefined]],
        ['waiting', slots.waiting, 0],
        ['timers', clock.pending, 0],
      );
      held.release();
      const slow = new Throttle(1, 0, 60, { clock });
      slow.tryAcquire();
      expectAll(
        [
          'hopeless',
          await refusalOf(slow.acquire(1, { timeout: 59 })),
          ['ThrottleTimeoutError', 'ERR_THROTTLE_TIMEOUT', 60],
        ],
        ['timers', clock.pending, 0],
      );
      const patient = slow.acquire(1, { timeout: 60 });
      await clock.advance(60);
      expectAll(['just met', rounded((await patient).waited), 60]);
    },
  },
  {
    name: 'aborts',
    async run() {
      const throttle = new Throttle(10, 0, 1, { clock: new ManualClock() });
      const reason = new Error('no longer wanted');
      throttle.tryAcquire(9);
      const controller = new AbortController();
      const large = failureOf(throttle.acquire(5, { signal: controller.signal }));
      const small = throttle.acquire(1);
      controller.abort(reason);
      expectAll(['the next is judged at once', throttle.waiting, 0], ['tokens', rounded(throttle.tokens), 0]);
      await small;
      const before = failureOf(throttle.acquire(1, { signal: AbortSignal.abort(reason) }));
      expectAll(
        ['the reason itself', (await large) === reason, true],
        ['aborted before', (await before) === reason, true],
      );
      const timed = await failureOf(throttle.acquire(1, { signal: AbortSignal.timeout(5) }));
      expectAll(
        ['the platform’s own timeout', (timed as Error).name, 'TimeoutError'],
        ['waiting', throttle.waiting, 0],
      );
    },
  },
  {
    name: 'maxQueue',
    async run() {
      const throttle = new Throttle(Infinity, 1, 1, { maxQueue: 1, name: 'mail' });
      const held = await throttle.acquire();
      const queued = throttle.acquire();
      const error = await failureOf(throttle.acquire());
      expectAll(
        ['refusal', error instanceof QueueFullError, true],
        ['named', (error as Error).message.includes('"mail"'), true],
        ['waiting', throttle.waiting, 1],
      );
      held.release();
      (await queued).release();
    },
  },
  {
    name: 'pause and resume',
    async run() {
      const clock = new ManualClock();
      const throttle = new Throttle(10, 0, 1, { clock });
      throttle.pause(30);
      throttle.pause(5);
      throttle.pause(0);
      const grants = grantsOf(throttle, clock, [1]);
      expectAll(
        ['paused for', throttle.pausedFor, 30],
        ['tryAcquire', throttle.tryAcquire(), undefined],
        ['timers', clock.pending, 1],
      );
      await clock.advance(30);
      expectAll(['at its end', grants, [[1, 30]]]);
      throttle.pause();
      void throttle.run(() => undefined);
      expectAll(['waiting', throttle.waiting, 1], ['no timer for a pause without end', clock.pending, 0]);
      throttle.resume();
      expectAll(['granted within resume', throttle.waiting, 0], ['paused for', throttle.pausedFor, 0]);
    },
  },
  {
    name: 'settle and refund',
    async run() {
      const clock = new ManualClock();
      const throttle = new Throttle(10, 0, 1, { clock });
      const first = await throttle.acquire(8);
      first.settle(3);
      first.settle(9);
      expectAll(['what was too much is back, once', throttle.tokens, 7], ['cost', first.cost, 3]);
      const second = await throttle.acquire(7);
      second.release();
      second.refund();
      expectAll(['refunded', throttle.tokens, 7]);
      (await throttle.acquire(7)).settle(12);
      expectAll(
        ['debt', throttle.tokens, -5],
        ['the next caller pays the debt', rounded(throttle.estimateWait(1)), 0.6],
      );
    },
  },
  {
    name: 'a permit releases once, and N releases grant N waiters',
    async run() {
      const throttle = new Throttle(Infinity, 3);
      const held = await Promise.all([throttle.acquire(), throttle.acquire(), throttle.acquire()]);
      const order: number[] = [];
      const later = [0, 1, 2, 3].map((number) => throttle.acquire().then((permit) => (order.push(number), permit)));
      for (const permit of held) {
        permit.release();
        permit.release();
        permit[Symbol.dispose]();
      }
      expectAll(['active', throttle.active, 3], ['waiting', throttle.waiting, 1]);
      for (const permit of await Promise.all(later.slice(0, 3))) permit.release();
      (await later[3])?.release();
      expectAll(['order', order, [0, 1, 2, 3]], ['active', throttle.active, 0]);
    },
  },
  {
    name: 'close and idle',
    async run() {
      const throttle = new Throttle(Infinity, 1);
      const reason = new Error('shutting down');
      const running = throttle.run(async () => {
        await sleep(5);
        return 'finished';
      });
      const waiting = failureOf(throttle.acquire());
      throttle.close(reason);
      const later = await failureOf(throttle.run(() => 'never'));
      let idle = false;
      const end = throttle.idle().then(() => (idle = true));
      await Promise.resolve();
      expectAll(
        ['idle while one runs', idle, false],
        ['closed', throttle.closed, true],
        ['tryAcquire', throttle.tryAcquire(), undefined],
      );
      await end;
      for (const error of [await waiting, later])
        expectAll(['refusal', error instanceof ThrottleClosedError && error.cause === reason, true]);
      expectAll(['what ran', await running, 'finished'], ['active', throttle.active, 0]);
    },
  },
  {
    name: 'run starts its function later, passes results through, and releases before it settles',
    async run() {
      const throttle = new Throttle(Infinity, 1);
      let started = false;
      const first = throttle.run(() => (started = true));
      expectAll(['started within the call', started, false]);
      await first;
      const failure = { not: 'an error' };
      const thrown = await failureOf(throttle.run(() => Promise.reject(failure as unknown as Error)));
      expectAll(['its failure itself', thrown === failure, true], ['active', throttle.active, 0]);
      const doubled = throttle.wrap((number: number) => number * 2);
      expectAll(
        ['wrap', await doubled(4), 8],
        ['map', await throttle.map([1, 2, 3], async (number, index) => number * 10 + index), [10, 21, 32]],
      );
    },
  },
  {
    name: 'errors, and invalid arguments by name',
    async run() {
      const throttle = new Throttle(10);
      const classes: [string, Error, (new (...args: never[]) => Error)[]][] = [
        ['ThrottleTimeoutError', new ThrottleTimeoutError('m'), [ThrottleError, Error]],
        ['ServerBusyError', new ServerBusyError(), [ThrottleTimeoutError, ThrottleError, Error]],
        ['QueueFullError', new QueueFullError('m'), [ThrottleError, Error]],
        ['ThrottleClosedError', new ThrottleClosedError('m'), [ThrottleError, Error]],
      ];
      for (const [name, error, parents] of classes) {
        expectAll(
          ['name', error.name, name],
          [`${name} is one`, parents.every((Parent) => error instanceof Parent), true],
          ['it has a stack', typeof error.stack, 'string'],
        );
      }
      const made = (make: () => unknown): string => {
        try {
          make();
          return 'no error';
        } catch (error) {
          return `${(error as Error).name}: ${(error as Error).message}`;
        }
      };
      expectAll(
        [
          'concurrency',
          made(() => new Throttle(1, 1.5)),
          'RangeError: concurrency must be an integer >= 0, received 1.5',
        ],
        [
          'capacity',
          made(() => new Throttle('10' as unknown as number)).startsWith('TypeError: capacity must be'),
          true,
        ],
        ['acquire rejects and does not throw', ((await failureOf(throttle.acquire(NaN))) as Error).name, 'RangeError'],
        ['cost beyond the burst', ((await failureOf(throttle.run(() => 1, 11))) as Error).name, 'RangeError'],
        ['nothing spent', throttle.tokens, 10],
      );
    },
  },
  {
    name: 'a keyed throttle',
    async run() {
      const clock = new ManualClock();
      const keyed = new KeyedThrottle(1, 0, 60, { clock, maxKeys: 2 });
      const ada = keyed.tryAcquire('ada');
      ada?.release();
      expectAll(
        ['ada', ada?.cost, 1],
        ['ada again', keyed.tryAcquire('ada'), undefined],
        ['bob', await keyed.run('bob', (permit) => permit.cost), 1],
        ['a third', await refusalOf(keyed.acquire('eve')).then(([name]) => name), 'QueueFullError'],
      );
      keyed.pause('bob', 90);
      await clock.advance(60);
      expectAll(
        ['only the paused key is live', [keyed.size, keyed.peek('ada'), keyed.peek('bob')?.tokens], [1, undefined, 1]],
        ['eve', keyed.tryAcquire('eve')?.cost, 1],
      );
    },
  },
  {
    name: 'a limiter of several resources, with status 503',
    async run() {
      const [database, files] = [new Resource(2), new Resource(1)];
      const limiter = new Limiter({ timeout: 0.02, resources: [database, files] });
      const report = limiter.resources([database, files])(
        async (month: string) => `${month}: ${database.active} ${files.active}`,
      );
      expectAll(['held', await report('March'), 'March: 1 1']);
      const held = await files.acquire();
      const error = await failureOf(report('April'));
      expectAll(
        [
          'refusal',
          error instanceof ServerBusyError && [error.status, error.message],
          [503, 'Server busy, please retry later'],
        ],
        ['permits after the refusal', database.active, 0],
      );
      held.release();
      let refused: unknown;
      try {
        limiter.resources([files, database]);
      } catch (caught) {
        refused = caught;
      }
      expectAll(
        ['out of order', (refused as Error | undefined)?.name, 'RangeError'],
        ['afterwards', await report('May'), 'May: 1 1'],
      );
    },
  },
  {
    name: 'several rates and a sliding window',
    async run() {
      const clock = new ManualClock();
      const both = new Throttle(2, 0, 1, { also: [{ capacity: 3, period: 60 }], clock });
      const grants = grantsOf(both, clock, [1, 1, 1, 1]);
      await clock.advance(60);
      expectAll(['instants', grants.map(([, at]) => at), [0, 0, 0.5, 20]]);
      const strict = new Throttle(3, 0, 1, { window: 'sliding', margin: 0.25, clock: new ManualClock() });
      expectAll(
        ['a burst', strict.tryAcquire(3)?.cost, 3],
        ['more', strict.tryAcquire(), undefined],
        ['until the window has passed', rounded(strict.estimateWait()), 1.25],
      );
    },
  },
  {
    name: 'limits that change',
    async run() {
      const throttle = new Throttle(Infinity, 1);
      const [first, second] = [await throttle.acquire(), throttle.acquire()];
      throttle.configure({ concurrency: 2 });
      expectAll(['granted within configure', throttle.waiting, 0], ['active', throttle.active, 2]);
      throttle.configure({ concurrency: 1 });
      expectAll(['revoked', throttle.active, 2]);
      first.release();
      expectAll(['still full', throttle.tryAcquire(), undefined]);
      (await second).release();
    },
  },
  {
    name: 'a wait above the limit of setTimeout',
    async run() {
      const throttle = new Throttle(1, 0, 1e8);
      throttle.tryAcquire();
      const controller = new AbortController();
      const waiting = failureOf(throttle.acquire(1, { signal: controller.signal }));
      await sleep(30);
      expectAll(['waiting', throttle.waiting, 1]);
      controller.abort();
      expectAll(['ended by', ((await waiting) as Error).name, 'AbortError']);
    },
  },
  {
    name: '50,000 waiters in order without recursion, and 10,000 aborts by one signal',
    async run() {
      const throttle = new Throttle(Infinity, 1);
      const first = await throttle.acquire();
      let next = 0;
      let inOrder = true;
      const all = Array.from({ length: 50_000 }, (_, index) => throttle.run(() => void (inOrder &&= index === next++)));
      const controller = new AbortController();
      const leaving = Array.from({ length: 10_000 }, () =>
        failureOf(throttle.acquire(1, { signal: controller.signal })),
      );
      controller.abort('enough');
      const reasons = new Set(await Promise.all(leaving));
      expectAll(['reasons', [...reasons], ['enough']], ['waiting', throttle.waiting, 50_000]);
      first.release();
      await Promise.all(all);
      expectAll(['done', next, 50_000], ['in order', inOrder, true], ['active', throttle.active, 0]);
    },
  },
  {
    name: 'throttledFetch pauses the gate after a 429 with Retry-After, and then retries',
    async run() {
      const clock = new ManualClock();
      const throttle = new Throttle(10, 2, 1, { clock });
      const received: [string, number][] = [];
      const polite = throttledFetch(throttle, {
        async fetch(input, init) {
          const request = new Request(input, init);
          received.push([`${request.method} ${await request.text()}`, clock.now()]);
          return received.length === 1
            ? new Response('slow down', { status: 429, headers: { 'Retry-After': '30' } })
            : new Response('served');
        },
        hold: 'body',
      });
      const answered = polite('https://api.example/items', { method: 'POST', body: 'sent' });
      while (throttle.waiting === 0) await sleep(1);
      expectAll([
        `paused for 30 s and up to a quarter more: ${throttle.pausedFor}`,
        throttle.pausedFor >= 30 && throttle.pausedFor <= 37.5,
        true,
      ]);
      await clock.advance(37.5);
      const response = await answered;
      expectAll(
        ['held until the body is read', throttle.active, 1],
        ['status', response.status, 200],
        ['body', await response.text(), 'served'],
      );
      await sleep(0);
      expectAll(
        ['requests', received.map(([what]) => what), ['POST sent', 'POST sent']],
        ['at once', received[0]?.[1], 0],
        ['later', (received[1]?.[1] ?? 0) >= 30, true],
        ['active', throttle.active, 0],
      );
    },
  },
  {
    name: 'web handles a Request, and a refusal has Retry-After',
    async run() {
      const createRequest = (key = 'ada'): Request =>
        new Request('https://example.com/', { headers: { 'x-api-key': key } });
      const rated = web(async (request) => new Response(`hello ${request.headers.get('x-api-key')}`), {
        gate: new Throttle(1, 0, 60),
      });
      const [served, refused] = [await rated(createRequest()), await rated(createRequest())];
      expectAll(
        ['statuses', [served.status, refused.status], [200, 429]],
        ['body', await served.text(), 'hello ada'],
        ['Retry-After', refused.headers.get('retry-after'), '60'],
        ['policy', refused.headers.get('ratelimit-policy'), '"default";q=1;w=60'],
        ['type', refused.headers.get('content-type'), 'application/problem+json'],
        ['problem', ((await refused.json()) as { status?: number }).status, 429],
      );
      const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
      const single = web(
        () => new Response(new ReadableStream<Uint8Array>({ start: (controller) => void streams.push(controller) })),
        concurrencyLimit({ key: 'header:x-api-key', maxConcurrent: 1 }),
      );
      const first = await single(createRequest());
      expectAll([
        'while it streams',
        [(await single(createRequest())).status, (await single(createRequest('bob'))).status],
        [429, 200],
      ]);
      streams[0]?.enqueue(new TextEncoder().encode('the end'));
      streams[0]?.close();
      expectAll(['stream', await first.text(), 'the end'], ['afterwards', (await single(createRequest())).status, 200]);
    },
  },
  {
    name: 'Symbol.dispose, Symbol.asyncDispose',
    async run() {
      const throttle = new Throttle(Infinity, 2);
      const [first, second] = [await throttle.acquire(), await throttle.acquire()];
      first[Symbol.dispose]();
      await second[Symbol.asyncDispose]();
      expectAll(
        ['symbols', [typeof Symbol.dispose, typeof Symbol.asyncDispose], ['symbol', 'symbol']],
        ['released', [first.released, second.released, throttle.active], [true, true, 0]],
      );
      await throttle[Symbol.asyncDispose]();
      expectAll(['closed', throttle.closed, true]);
    },
  },
  {
    name: 'using',
    async run() {
      // Only that file fails to load on a runtime that lacks the syntax.
      const blocks = await import('./using.js').catch((error: unknown) => {
        if (error instanceof SyntaxError) return undefined;
        throw error;
      });
      if (blocks === undefined) return 'no';
      expectAll(['active inside and after', await blocks.inBlocks(), [1, 0, 1, 0, 1, 0, 'thrown', 0, true]]);
      // The source text of the function shows whether the runtime translated the syntax.
      return /await using \w+ =/.test(String(blocks.inBlocks)) ? 'native' : 'translated';
    },
  },
  {
    name: 'AsyncLocalStorage',
    async run() {
      const AsyncLocalStorage = await findStorage();
      if (AsyncLocalStorage === undefined) return 'no';
      const storage = new AsyncLocalStorage();
      const throttle = new Throttle(Infinity, 1);
      const held = await storage.run('holder', () => throttle.acquire());
      const seen = ['ada', 'bob'].map((user) =>
        storage.run(user, () => throttle.run(async () => (await sleep(1), storage.getStore()))),
      );
      storage.run('releaser', () => held.release());
      expectAll(['contexts', await Promise.all(seen), ['ada', 'bob']]);
      return 'yes';
    },
  },
  {
    name: 'diagnostics_channel',
    async run() {
      interface Diagnostics {
        subscribe(name: string, listener: (message: unknown) => void): void;
        unsubscribe(name: string, listener: (message: unknown) => void): void;
      }
      const diagnostics = runtime.process?.getBuiltinModule?.('node:diagnostics_channel') as Diagnostics | undefined;
      if (diagnostics === undefined) return 'no';
      const received: unknown[][] = [];
      const listener = (message: unknown): void => {
        const { name, reason, cost } = message as ThrottleMessages['headgate:refused'];
        received.push([name, reason, cost]);
      };
      diagnostics.subscribe('headgate:refused', listener);
      const throttle = new Throttle(5, 0, 60, { name: 'api', maxQueue: 0 });
      throttle.tryAcquire(5);
      throttle.tryAcquire(2);
      await failureOf(throttle.acquire(3, { timeout: 1 }));
      diagnostics.unsubscribe('headgate:refused', listener);
      throttle.tryAcquire(4);
      expectAll([
        'refusals',
        received,
        [
          ['api', 'busy', 2],
          ['api', 'timeout', 3],
        ],
      ]);
      return 'yes';
    },
  },
  {
    name: 'record and toSVG',
    async run() {
      const clock = new ManualClock();
      const throttle = new Throttle(2, 1, 1, { clock, name: '<gate>' });
      const trace = record(throttle);
      const permit = await throttle.acquire();
      const second = throttle.run(() => new Promise<void>((resolve) => void clock.schedule(2, resolve)));
      throttle.pause(3);
      permit.release();
      await clock.advance(5);
      await second;
      trace.stop();
      throttle.tryAcquire();
      const events = trace.events.map(({ kind, at }) => [kind, at]);
      expectAll(
        [
          'events',
          events,
          [
            ['granted', 0],
            ['queued', 0],
            ['paused', 0],
            ['released', 0],
            ['granted', 3],
            ['released', 5],
          ],
        ],
        ['picture', [/^<svg[^]*<\/svg>\s*$/.test(toSVG(trace)), toSVG(trace).includes('<gate>')], [true, false]],
      );
    },
  },
  {
    name: 'metrics',
    async run() {
      const counted: Record<string, number> = {};
      const add = (name: string) => (value: number) => void (counted[name] = (counted[name] ?? 0) + value);
      type Collect = (result: { observe(metric: string, value: number): void }) => void;
      let collect: Collect = () => {};
      const meter = {
        createHistogram: (name: string) => ({ record: add(`${name}.sum`) }),
        createCounter: (name: string) => ({ add: add(name) }),
        createObservableUpDownCounter: (name: string) => name,
        createObservableGauge: (name: string) => name,
        addBatchObservableCallback: (callback: Collect) => (collect = callback),
        removeBatchObservableCallback: () => {},
      };
      const stop = instrument({ getMeter: () => meter } as unknown as Parameters<typeof instrument>[0]);
      const throttle = new Throttle(3, 1, 60, { clock: new ManualClock() });
      const permit = await throttle.acquire(2);
      const waiting = failureOf(throttle.acquire());
      throttle.tryAcquire();
      collect({ observe: (metric, value) => void (counted[metric] = value) });
      stop();
      permit.release();
      await waiting;
      expectAll([
        'counted',
        counted,
        {
          'headgate.wait.duration.sum': 0,
          'headgate.refused': 1,
          'headgate.active': 1,
          'headgate.queue.length': 1,
          'headgate.tokens': 1,
        },
      ]);
    },
  },
  {
    name: 'headgate/redis can be imported without a client of Redis',
    async run() {
      const { RedisThrottle, ThrottleBackendError } = await import('headgate/redis');
      expectAll(['exports', [typeof RedisThrottle, typeof ThrottleBackendError], ['function', 'function']]);
    },
  },
  {
    // The last check, because it covers all earlier checks.
    name: 'unhandled rejections',
    async run() {
      const throttle = new Throttle(1, 0, 60);
      throttle.tryAcquire();
      const waiting: Promise<Permit>[] = [throttle.acquire(), throttle.acquire(1, { timeout: 600 })];
      throttle.close();
      for (const promise of waiting) void failureOf(promise);
      await sleep(30);
      expectAll(['rejections without a handler', unhandled, []]);
      void Promise.reject(new Error(ON_PURPOSE));
      await sleep(30);
      const reported = unhandled.splice(0);
      return reported.includes(ON_PURPOSE) ? 'none' : 'unreported';
    },
  },
];

/** Runs the checks one after another. */
export async function runChecks(list: readonly Check[] = checks): Promise<Report> {
  watchRejections();
  const outcomes: Outcome[] = [];
  for (const { name, run } of list) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`expected an end within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
    });
    try {
      const found = await Promise.race([run(), limit]);
      outcomes.push({ name, ...(typeof found === 'string' && { found }) });
    } catch (error) {
      outcomes.push({
        name,
        failure:
          error instanceof Error
            ? error.name === 'Error'
              ? error.message
              : `${error.name}: ${error.message}`
            : show(error),
      });
    } finally {
      clearTimeout(timer);
    }
  }
  return { agent: agent(), outcomes };
}
