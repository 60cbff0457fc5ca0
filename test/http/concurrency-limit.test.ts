/** `concurrencyLimit`. The tests with underscores have the names of the tests of django-smart-ratelimit. */
import { Throttle } from 'headgate';
import { type BackendNeeds, concurrencyLimit } from 'headgate/http';
import { describe, expect, test, vi } from 'vitest';
import { KeyedThrottle } from '../../src/compose/keyed-throttle.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';

/** A backend function that records its calls and its result. */
const recordingBackend = (): {
  keyed: KeyedThrottle;
  backend: (needs: BackendNeeds) => KeyedThrottle;
  needs: BackendNeeds[];
} => {
  const received: BackendNeeds[] = [];
  let keyed!: KeyedThrottle;
  return {
    get keyed() {
      return keyed;
    },
    needs: received,
    backend: (needs) => {
      received.push(needs);
      return (keyed = new KeyedThrottle(Infinity, needs.concurrency));
    },
  };
};

describe.each(sites)('concurrency_limit: %s', (_, serve) => {
  const as = (user: string): { headers: Record<string, string> } => ({ headers: { 'x-user': user } });
  const key = 'header:x-user';

  test('semaphore_contract', async () => {
    const latches = [new Latch(), new Latch()];
    const counts = recordingBackend();
    let running = 0;
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 2, backend: counts.backend }), {
      handler: async () => (await latches[running++]?.opened, 'done'),
    });
    const first = call(site, '/', as('a'));
    await until(() => running === 1);
    const second = call(site, '/', as('a'));
    await until(() => running === 2);
    // A key has two slots. The slots of another key are free.
    expect(counts.keyed.peek('header:x-user:a')?.active).toBe(2);
    expect([(await get(site, '/', as('a'))).status, (await get(site, '/', as('b'))).status]).toEqual([429, 200]);
    // One released slot admits one request.
    latches[0]?.open();
    await first.seen;
    await until(() => counts.keyed.peek('header:x-user:a')?.active === 1);
    expect((await get(site, '/', as('a'))).status).toBe(200);
    latches[1]?.open();
    await second.seen;
    await until(() => (counts.keyed.peek('header:x-user:a')?.active ?? 0) === 0);
  });

  test('reclaims_leaked_slot', async () => {
    const keyed = new KeyedThrottle(Infinity, 1);
    const leak = new Latch();
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, ttl: 0.06, backend: keyed }), {
      handler: async (path) => (path === '/leak' && (await leak.opened), 'done'),
    });
    const leaked = call(site, '/leak', as('a'));
    await until(() => keyed.peek('header:x-user:a')?.active === 1);
    expect((await get(site, '/', as('a'))).status).toBe(429);
    await until(() => (keyed.peek('header:x-user:a')?.active ?? 0) === 0);
    expect((await get(site, '/', as('a'))).status).toBe(200);
    leak.open();
    await leaked.seen;
  });

  test('reclaims_leaked_slot does not apply to a backend function, which receives the ttl', async () => {
    const counts = recordingBackend();
    const latch = new Latch();
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, ttl: 0.02, backend: counts.backend }), {
      handler: async () => (await latch.opened, 'done'),
    });
    expect(counts.needs).toEqual([{ concurrency: 1, ttl: 0.02 }]);
    const slow = call(site, '/', as('a'));
    await until(() => counts.keyed.peek('header:x-user:a')?.active === 1);
    await new Promise((resolve) => void setTimeout(resolve, 60));
    expect(counts.keyed.peek('header:x-user:a')?.active).toBe(1);
    latch.open();
    expect((await slow.seen).status).toBe(200);
    await until(() => (counts.keyed.peek('header:x-user:a')?.active ?? 0) === 0);
  });

  test('blocks_over_capacity_request', async () => {
    const latch = new Latch();
    let running = 0;
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 2 }), {
      handler: async () => (running++, await latch.opened, 'done'),
    });
    const calls = [call(site, '/', as('a')), call(site, '/', as('a'))];
    await until(() => running === 2);
    const over = await get(site, '/', as('a'));
    expect([over.status, over.headers['retry-after'], over.headers['ratelimit']]).toEqual([
      429,
      '1',
      '"default";r=0;t=1',
    ]);
    latch.open();
    expect((await Promise.all(calls.map(({ seen }) => seen))).map(({ status }) => status)).toEqual([200, 200]);
  });

  test('releases_slot_after_each_request', async () => {
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, wait: 5 }));
    for (let index = 0; index < 5; index++) expect((await get(site, '/', as('a'))).status).toBe(200);
  });

  test('non_block_allows_over_capacity', async () => {
    const latch = new Latch();
    const counts = recordingBackend();
    let running = 0;
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, block: false, backend: counts.backend }), {
      handler: async () => (running++, await latch.opened, 'done'),
    });
    const calls = [1, 2, 3].map(() => call(site, '/', as('a')));
    await until(() => running === 3);
    expect(counts.keyed.peek('header:x-user:a')?.active).toBe(1);
    latch.open();
    expect((await Promise.all(calls.map(({ seen }) => seen))).map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  test('callable_key', async () => {
    const latch = new Latch();
    let turn = 0;
    const keys = ['a', 'a', 'b'];
    const site = await serve(concurrencyLimit({ key: async () => keys[turn++], maxConcurrent: 1 }), {
      handler: async (path) => (path === '/slow' && (await latch.opened), 'done'),
    });
    const slow = call(site, '/slow');
    await until(() => turn === 1);
    expect([(await get(site)).status, (await get(site)).status]).toEqual([429, 200]);
    latch.open();
    expect((await slow.seen).status).toBe(200);
  });

  test('async_view', async () => {
    const counts = recordingBackend();
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, backend: counts.backend }), {
      handler: async () => {
        await new Promise((resolve) => void setTimeout(resolve, 20));
        return `active: ${counts.keyed.peek('header:x-user:a')?.active}`;
      },
    });
    const answers = await Promise.all([get(site, '/', as('a')), get(site, '/', as('a'))]);
    expect(answers.map(({ status }) => status).toSorted((one, other) => one - other)).toEqual([200, 429]);
    expect(answers.map(({ body }) => body)).toContain('active: 1');
    await until(() => (counts.keyed.peek('header:x-user:a')?.active ?? 0) === 0);
  });

  test('response_callback', async () => {
    const latch = new Latch();
    let running = 0;
    const onLimited = vi.fn((_refusal: unknown) => ({ detail: 'five exports at a time' }));
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, onLimited }), {
      handler: async () => (running++, await latch.opened, 'done'),
    });
    const slow = call(site, '/', as('a'));
    await until(() => running === 1);
    const seen = await get(site, '/', as('a'));
    expect([seen.status, JSON.parse(seen.body)]).toEqual([429, { detail: 'five exports at a time' }]);
    expect(onLimited.mock.calls[0]?.[0]).toMatchObject({ status: 429, retryAfter: 1, key: 'header:x-user:a' });
    latch.open();
    await slow.seen;
  });

  test('view_exception', async () => {
    const counts = recordingBackend();
    const site = await serve(concurrencyLimit({ key, maxConcurrent: 1, backend: counts.backend }), {
      handler: () => {
        throw new Error('no');
      },
    });
    for (let index = 0; index < 3; index++) {
      expect((await get(site, '/', as('a'))).status).toBe(500);
      await until(() => (counts.keyed.peek('header:x-user:a')?.active ?? 0) === 0);
    }
  });
});

test('concurrencyLimit returns the other options unchanged', () => {
  const backend = new KeyedThrottle(Infinity, 3);
  const skip = (): boolean => false;
  const onLimited = (): undefined => undefined;
  expect(
    concurrencyLimit({
      key: 'ip',
      maxConcurrent: 3,
      backend,
      ttl: 60,
      block: false,
      wait: 2,
      status: 503,
      headers: false,
      failOpen: true,
      ipv6Prefix: 64,
      skip,
      onLimited,
    }),
  ).toEqual({
    key: 'ip',
    keyed: backend,
    hold: 'handler',
    ttl: 60,
    block: false,
    wait: 2,
    status: 503,
    headers: false,
    failOpen: true,
    ipv6Prefix: 64,
    skip,
    onLimited,
  });
});

test("the default of hold is 'handler' (FAULTS 26)", () => {
  const holds = [{}, { hold: undefined }, { hold: 'response' as const }].map(
    (given) => concurrencyLimit({ key: 'ip', maxConcurrent: 1, ...given }).hold,
  );
  expect(holds).toEqual(['handler', 'handler', 'response']);
});

describe('the concurrency of a backend (FAULTS 49)', () => {
  /** A keyed gate that shows `concurrency`. */
  const withConcurrency = (concurrency: unknown): KeyedThrottle =>
    Object.defineProperty(new KeyedThrottle(Infinity, 5), 'concurrency', { value: concurrency });

  test.each<[unknown, string]>([
    [5, 'maxConcurrent must be the concurrency of the backend, which is 5, received 2'],
    [1, 'maxConcurrent must be the concurrency of the backend, which is 1, received 2'],
    [0, 'maxConcurrent must be the concurrency of the backend, which is 0 (no limit), received 2'],
    [Infinity, 'maxConcurrent must be the concurrency of the backend, which is Infinity (no limit), received 2'],
  ])('must be maxConcurrent: %s is rejected for 2', (concurrency, message) => {
    const backend = withConcurrency(concurrency);
    for (const given of [backend, () => backend]) {
      expect(() => concurrencyLimit({ key: 'ip', maxConcurrent: 2, backend: given })).toThrow(new RangeError(message));
    }
  });

  test.each([2, undefined, '5'])('may be %j: equal to maxConcurrent, or not a number', (concurrency) => {
    const backend = withConcurrency(concurrency);
    for (const given of [backend, () => backend])
      expect(concurrencyLimit({ key: 'ip', maxConcurrent: 2, backend: given }).keyed).toBe(backend);
  });
});

test('a backend function receives the ttl, and the adapter receives none', () => {
  const received: BackendNeeds[] = [];
  const backend = (needs: BackendNeeds): KeyedThrottle => (
    received.push(needs),
    new KeyedThrottle(Infinity, needs.concurrency)
  );
  const options = [{}, { ttl: undefined }, { ttl: 60 }].map((given) =>
    concurrencyLimit({ key: 'ip', maxConcurrent: 3, backend, ...given }),
  );
  expect(received).toEqual([undefined, undefined, 60].map((ttl) => ({ concurrency: 3, ttl })));
  expect(options.filter((each) => 'ttl' in each)).toEqual([]);
});

test('the default backend is a KeyedThrottle', () => {
  const { keyed } = concurrencyLimit({ key: 'ip', maxConcurrent: 5 });
  expect(keyed).toBeInstanceOf(KeyedThrottle);
  expect((keyed as KeyedThrottle).peek('ip:::1')).toBeUndefined();
});

test.each<[string, object, string]>([
  ['a missing maxConcurrent', { key: 'ip' }, 'TypeError: maxConcurrent must be an integer >= 1, received undefined'],
  [
    'a maxConcurrent of 0',
    { key: 'ip', maxConcurrent: 0 },
    'RangeError: maxConcurrent must be an integer >= 1, received 0',
  ],
  [
    'a fractional maxConcurrent',
    { key: 'ip', maxConcurrent: 1.5 },
    'RangeError: maxConcurrent must be an integer >= 1, received 1.5',
  ],
  [
    'an infinite maxConcurrent',
    { key: 'ip', maxConcurrent: Infinity },
    'RangeError: maxConcurrent must be an integer >= 1, received Infinity',
  ],
  [
    'a ttl of 0',
    { key: 'ip', maxConcurrent: 1, ttl: 0 },
    'RangeError: ttl must be a number > 0, up to 2147483, received 0',
  ],
  [
    'a backend that is a string',
    { key: 'ip', maxConcurrent: 1, backend: 'redis' },
    'TypeError: backend must be a KeyedGate, received "redis"',
  ],
  [
    'a backend that is not keyed',
    { key: 'ip', maxConcurrent: 1, backend: new Throttle(1) },
    'TypeError: backend must be a KeyedGate, received object',
  ],
  [
    'a maxKeys of 0',
    { key: 'ip', maxConcurrent: 1, maxKeys: 0 },
    'RangeError: maxKeys must be an integer >= 1, received 0',
  ],
  [
    'a fractional maxKeys',
    { key: 'ip', maxConcurrent: 1, maxKeys: 1.5 },
    'RangeError: maxKeys must be an integer >= 1, received 1.5',
  ],
  [
    'an infinite maxKeys',
    { key: 'ip', maxConcurrent: 1, maxKeys: Infinity },
    'RangeError: maxKeys must be an integer >= 1, received Infinity',
  ],
  [
    'maxKeys that is a string',
    { key: 'ip', maxConcurrent: 1, maxKeys: '5' },
    'TypeError: maxKeys must be an integer >= 1, received "5"',
  ],
  [
    'maxKeys with a backend',
    { key: 'ip', maxConcurrent: 1, maxKeys: 5, backend: new KeyedThrottle(Infinity, 1) },
    'TypeError: maxKeys must be undefined where backend is set, received 5',
  ],
  [
    'a backend function that returns undefined',
    { key: 'ip', maxConcurrent: 1, backend: () => undefined },
    'TypeError: backend must be a KeyedGate, received undefined',
  ],
])('concurrencyLimit throws at creation for %s', (_, options, message) => {
  expect(() => {
    try {
      concurrencyLimit(options as never);
    } catch (error) {
      throw new Error(String(error), { cause: error });
    }
  }).toThrow(message);
});
