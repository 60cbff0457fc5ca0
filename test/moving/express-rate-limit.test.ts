/** Each row of the table for express-rate-limit, with both packages in front of the same Express application. */
import createApp, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { type KeyedGate, KeyedThrottle } from 'headgate';
import { express, permitOf } from 'headgate/http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';

interface Call {
  readonly headers?: Record<string, string>;
}

/** Four calls without special headers. */
const PLAIN: readonly Call[] = [{}, {}, {}, {}];

/** Sends the calls one after another, and describes each response. */
async function observe(
  limit: (app: Express) => RequestHandler | RequestHandler[],
  calls: readonly Call[],
  describe: (response: globalThis.Response, body: string) => unknown,
): Promise<unknown[]> {
  const app = createApp();
  app.set('trust proxy', 'loopback');
  app.set('env', 'test'); // Express logs no errors
  app.use(limit(app));
  app.get('/', (request, response) => void response.status(Number(request.get('x-status') ?? 200)).send('ok'));
  const server = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    const seen: unknown[] = [];
    for (const { headers = {} } of calls) {
      const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, { headers });
      seen.push(describe(response, await response.text()));
    }
    return seen;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** Defines the test of a row. Both limits must lead to the same responses, and to different ones within the calls. */
function row(
  id: string,
  theirs: (app: Express) => RequestHandler | RequestHandler[],
  ours: (app: Express) => RequestHandler | RequestHandler[],
  calls: readonly Call[] = PLAIN,
  describe: (response: globalThis.Response, body: string) => unknown = ({ status }) => status,
): void {
  test(id, async () => {
    const expected = await observe(theirs, calls, describe);
    expect(new Set(expected.map((value) => JSON.stringify(value))).size).toBeGreaterThan(1);
    expect(await observe(ours, calls, describe)).toEqual(expected);
  });
}

/** The options that every limit of express-rate-limit has here. */
const base = { windowMs: 60_000, limit: 2, legacyHeaders: false };
const perMinute = (limit = 2): KeyedThrottle => new KeyedThrottle({ capacity: limit, period: 60, window: 'sliding' });

row(
  'rateLimit({ windowMs: 60_000, limit: 2 })',
  () => rateLimit({ windowMs: 60_000, limit: 2 }),
  () => express({ keyed: new KeyedThrottle({ capacity: 2, period: 60, window: 'sliding' }), key: 'ip' }),
);

const ada = { 'x-user': 'ada' };
const bob = { 'x-user': 'bob' };
const user = (request: Request): string => request.get('x-user') ?? '';
const isPaid = (request: Request): boolean => user(request) === 'ada';

row(
  'limit: (request) => …',
  () => rateLimit({ ...base, limit: (request) => (isPaid(request) ? 3 : 1), keyGenerator: user }),
  () => {
    const paid = express({ keyed: perMinute(3), key: user });
    const free = express({ keyed: perMinute(1), key: user });
    return (request: Request, response: Response, next: NextFunction) =>
      (isPaid(request) ? paid : free)(request, response, next);
  },
  [ada, bob, bob, ada, ada, ada].map((headers) => ({ headers })),
);

row(
  'statusCode: 503',
  () => rateLimit({ ...base, statusCode: 503 }),
  () => express({ keyed: perMinute(), key: 'ip', status: 503 }),
);

row(
  "message: 'slow down'",
  () => rateLimit({ ...base, message: 'slow down' }),
  () => express({ keyed: perMinute(), key: 'ip', onLimited: () => 'slow down' }),
  PLAIN,
  ({ status }, body) => [status, body],
);

row(
  'handler: (request, response) => …',
  () => {
    const respond = (request: Request, response: Response): void =>
      void response.status(418).send(`slow down, ${request.method}`);
    return rateLimit({ ...base, handler: (request, response) => respond(request, response) });
  },
  () => {
    const respond = (request: Request, response: Response): void =>
      void response.status(418).send(`slow down, ${request.method}`);
    return express({
      keyed: perMinute(),
      key: 'ip',
      onLimited: (refusal, request: Request, response: Response) => {
        expect(refusal.status).toBe(429);
        respond(request, response);
      },
    });
  },
  PLAIN,
  ({ status }, body) => [status, body],
);

/** The parameters q, w and r of the `RateLimit` fields, and the name of the policy. */
const policy = ({ headers }: globalThis.Response): unknown =>
  [headers.get('ratelimit-policy'), headers.get('ratelimit')].map((field) => [
    /^"(.*?)"/.exec(field ?? '')?.[1],
    Object.fromEntries([...(field ?? '').matchAll(/\b([qwr])=(\d+)/g)].map(([, name, value]) => [name, value])),
  ]);

row(
  "standardHeaders: 'draft-8', identifier: 'api'",
  () => rateLimit({ ...base, standardHeaders: 'draft-8', identifier: 'api' }),
  () => {
    const keyed = new KeyedThrottle({ capacity: 2, period: 60, window: 'sliding', name: 'api' });
    return express({ keyed, key: 'ip', headers: true });
  },
  PLAIN.slice(0, 2),
  policy,
);

row(
  'retryAfter: 7',
  () => rateLimit({ ...base, retryAfter: 7, standardHeaders: 'draft-8' }),
  () =>
    express({
      keyed: perMinute(),
      key: 'ip',
      onLimited: (_refusal, _request, response) => void response.setHeader('Retry-After', '7'),
    }),
  PLAIN,
  ({ status, headers }) => [status, headers.get('retry-after')],
);

row(
  'keyGenerator: (request) => …',
  () => rateLimit({ ...base, keyGenerator: (request: Request) => request.get('x-user') ?? '' }),
  () => express({ keyed: perMinute(), key: (request: Request) => request.get('x-user') ?? '' }),
  [ada, ada, bob, ada, bob, bob].map((headers) => ({ headers })),
);

row(
  'ipv6Subnet: 64',
  () => rateLimit({ ...base, ipv6Subnet: 64 }),
  () => express({ keyed: perMinute(), key: 'ip', ipv6Prefix: 64 }),
  ['1::1', '1::2', '1::3', '2::1', '1::4', '2::2', '2::3'].map((address) => ({
    headers: { 'x-forwarded-for': `2001:db8:0:${address}` },
  })),
);

row(
  'skip: (request) => …',
  () => rateLimit({ ...base, skip: (request: Request) => request.get('x-user') === 'ada' }),
  () => express({ keyed: perMinute(), key: 'ip', skip: (request: Request) => request.get('x-user') === 'ada' }),
  [ada, ada, ada, bob, bob, bob, ada].map((headers) => ({ headers })),
);

const statuses = [401, 200, 401, 200, 401, 200, 200, 401].map((status) => ({ headers: { 'x-status': `${status}` } }));

row(
  'skipFailedRequests: true',
  () => rateLimit({ ...base, skipFailedRequests: true }),
  () => {
    const limit = express({ keyed: perMinute(), key: 'ip' });
    const refund: RequestHandler = (request, response, next) => {
      response.on('finish', () => {
        if (response.statusCode >= 400) permitOf(request)?.refund();
      });
      next();
    };
    return [limit, refund];
  },
  statuses,
);

row(
  'skipSuccessfulRequests: true, requestWasSuccessful',
  () =>
    rateLimit({
      ...base,
      skipSuccessfulRequests: true,
      requestWasSuccessful: (_request, response) => response.statusCode === 200,
    }),
  () => {
    const limit = express({ keyed: perMinute(), key: 'ip' });
    const refund: RequestHandler = (request, response, next) => {
      response.on('finish', () => {
        if (response.statusCode === 200) permitOf(request)?.refund();
      });
      next();
    };
    return [limit, refund];
  },
  statuses,
);

row(
  'request.rateLimit, requestPropertyName',
  () => {
    const limit = rateLimit({ ...base, limit: 3, requestPropertyName: 'quota', keyGenerator: () => 'ada' });
    const show: RequestHandler = (request, response) => {
      const { quota } = request as unknown as { quota: { limit: number; remaining: number; used: number } };
      response.json([quota.limit, quota.remaining, quota.used]);
    };
    return [limit, show];
  },
  () => {
    const keyed = perMinute(3);
    const limit = express({ keyed, key: () => 'ada' });
    const show: RequestHandler = (_request, response) => {
      const quota = keyed.peek('ada') ?? keyed;
      const tokens = keyed.peek('ada')?.tokens ?? 0;
      response.json([quota.capacity, tokens, quota.capacity - tokens]);
    };
    return [limit, show];
  },
  PLAIN.slice(0, 3),
  (_response, body) => body,
);

row(
  'await limiter.getKey(key)',
  () => {
    const limiter = rateLimit({ ...base, keyGenerator: user });
    const show: RequestHandler = async (request, response) => {
      const key = user(request);
      response.json((await limiter.getKey(key))?.totalHits);
    };
    return [limiter, show];
  },
  () => {
    const keyed = perMinute();
    const show: RequestHandler = (request, response) => {
      const key = user(request);
      response.json(keyed.capacity - (keyed.peek(key)?.tokens ?? NaN));
    };
    return [express({ keyed, key: user }), show];
  },
  [ada, bob, bob].map((headers) => ({ headers })),
  (_response, body) => body,
);

const reset = { 'x-user': 'ada', 'x-reset': '1' };

row(
  'limiter.resetKey(key)',
  () => {
    const limiter = rateLimit({ ...base, keyGenerator: user });
    const resetFirst: RequestHandler = (request, _response, next) => {
      const key = user(request);
      if (request.get('x-reset') !== undefined) limiter.resetKey(key);
      next();
    };
    return [resetFirst, limiter];
  },
  () => {
    const keyed = perMinute();
    const resetFirst: RequestHandler = (request, _response, next) => {
      const key = user(request);
      if (request.get('x-reset') !== undefined) keyed.correct(key, keyed.burst);
      next();
    };
    return [resetFirst, express({ keyed, key: user })];
  },
  [ada, ada, ada, reset, ada, ada].map((headers) => ({ headers })),
);

row(
  'passOnStoreError: true',
  () => {
    let [calls, hits] = [0, 0];
    const store = {
      localKeys: false,
      increment: async () => {
        if (++calls % 2 === 0) throw new Error('the store is down');
        return { totalHits: ++hits, resetTime: new Date(Date.now() + 60_000) };
      },
      decrement: () => {},
      resetKey: () => {},
    };
    const logger = { error: () => {}, warn: () => {} };
    return rateLimit({ ...base, limit: 1, store, logger, passOnStoreError: true });
  },
  () => {
    let calls = 0;
    const keyed = perMinute(1);
    const faulty: KeyedGate = {
      keyed: true,
      acquire: async (...args) => {
        if (++calls % 2 === 0) throw new Error('the gate is down');
        return keyed.acquire(...args);
      },
      tryAcquire: (...args) => keyed.tryAcquire(...args),
      run: (...args) => keyed.run(...args),
      pause: (...args) => keyed.pause(...args),
      resume: (...args) => keyed.resume(...args),
      close: () => keyed.close(),
    };
    return express({ keyed: faulty, key: 'ip', failOpen: true });
  },
);
