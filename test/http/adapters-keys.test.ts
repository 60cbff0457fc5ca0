/** The keys of requests in every adapter, on the real frameworks and over real sockets. */
import { KeyedThrottle, ThrottleTimeoutError } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { sites } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';

/** A keyed gate with one slot for each key. */
const onePerKey = (): KeyedThrottle => new KeyedThrottle(Infinity, 1);

describe.each(sites)('%s', (name, serve) => {
  /** Whether the framework has a setting for trusted proxies. */
  const hasProxySetting = ['express', 'koa', 'fastify'].includes(name);

  describe('keys', () => {
    /** The statuses of the `rest` of the requests, which arrive while the handler of the first request runs. */
    const statusesDuring = async (
      serving: ReturnType<typeof serve>,
      first: [path?: string, wanted?: object],
      rest: [path?: string, wanted?: object][],
      running: () => number,
      latch: Latch,
    ): Promise<number[]> => {
      const site = await serving;
      const holding = call(site, ...first);
      await until(() => running() === 1);
      const seen: number[] = [];
      for (const each of rest) seen.push((await get(site, ...each)).status);
      latch.open();
      expect((await holding.seen).status).toBe(200);
      return seen;
    };
    /** The statuses of the `rest`, on a server with one slot for each key. */
    const statusesWithOneSlot = async (
      key: string | (() => unknown),
      first: [path?: string, wanted?: object],
      rest: [path?: string, wanted?: object][],
      setting: object = {},
      more: object = {},
    ): Promise<number[]> => {
      const latch = new Latch();
      let running = 0;
      const keyed = onePerKey();
      const handler = async (): Promise<string> => (running++ === 0 && (await latch.opened), 'done');
      return statusesDuring(
        serve({ keyed, key: key as string, ...more }, { handler, ...setting }),
        first,
        rest,
        () => running,
        latch,
      );
    };
    /** The key of a request, or its error response. */
    const keyOf = async (
      key: unknown,
      path = '/',
      wanted: object = {},
      setting: object = {},
      more: object = {},
    ): Promise<unknown> => {
      const found: unknown[] = [];
      const keyed = {
        keyed: true as const,
        acquire: (resolvedKey: string) => (found.push(resolvedKey), Promise.reject(new ThrottleTimeoutError('full'))),
      };
      const refusals: unknown[] = [];
      const site = await serve(
        { keyed: keyed as never, key: key as string, onLimited: (refusal) => void refusals.push(refusal.key), ...more },
        setting,
      );
      const seen = await get(site, path, wanted);
      expect(refusals).toEqual(found);
      return found[0] ?? `${seen.status} ${seen.body} ${String(site.failures[0])}`;
    };
    const detail = (text: unknown): unknown => JSON.parse(/^400 (\{.*\})/.exec(String(text))?.[1] ?? '{}').detail;

    test.each(['user', 'user_or_ip'])("'%s' is the user's id, or the address of an anonymous client", async (key) => {
      expect(await keyOf(key, '/', {}, { user: { id: 42 } })).toBe('user:42');
      expect(await keyOf(key, '/', {}, { user: { id: 'ada' } })).toBe('user:ada');
      expect(await keyOf(key, '/', {}, { user: 0 })).toBe('user:0');
      expect(await keyOf(key, '/', {}, { user: 'bob' })).toBe('user:bob');
      for (const user of [undefined, null, false, '']) expect(await keyOf(key, '/', {}, { user })).toBe('ip:127.0.0.1');
    });

    test.each([[{}], [{ id: null }], [{ id: '' }], [{ id: {} }], [{ id: Number.NaN }], [{ id: false }], [true]])(
      "'user' rejects the user %j with an error for the error handler",
      async (user) => {
        expect(await keyOf('user', '/', {}, { user })).toMatch(
          /^500 failed TypeError: the user's id must be a string or a number/,
        );
      },
    );

    test("'header:NAME' is the value of the field, and its name is case-insensitive", async () => {
      expect(await keyOf('header:X-Api-Key', '/', { headers: { 'x-api-key': 'a:b%' } })).toBe('header:x-api-key:a:b%');
      expect(await keyOf('header:x-api-key', '/', { headers: { 'X-API-KEY': 'k' } })).toBe('header:x-api-key:k');
      expect(await keyOf('header:x-api-key', '/', { headers: { 'X-API-KEY': ['k', 'l'] } })).toBe(
        'header:x-api-key:k, l',
      );
      expect(detail(await keyOf('header:x-api-key'))).toBe('The request has no value for {headers.x-api-key}.');
      expect(detail(await keyOf('header:x-api-key', '/', { headers: { 'x-api-key': '' } }))).toBe(
        'The request has no value for {headers.x-api-key}.',
      );
    });

    test("'query:NAME' is the first parameter of that name", async () => {
      expect(await keyOf('query:tag', '/?tag=a&tag=b')).toBe('query:tag:a');
      expect(await keyOf('query:tag', '/x?x=1&tag=%C3%A4+b#tag')).toBe('query:tag:ä b');
      expect(await keyOf('query:tag', '/?tag[]=1&tag[x]=2&tag=3')).toBe('query:tag:3');
      for (const path of ['/', '/?', '/?tag=', '/?tags=1', '/tag=1'])
        expect(detail(await keyOf('query:tag', path))).toBe('The request has no value for {query.tag}.');
    });

    test('a template is filled in from the request', async () => {
      const user = { id: 42, org: { name: 'x:y%z' }, on: true, big: 10n };
      expect(await keyOf('user:{user.id}', '/', {}, { user })).toBe('user:42');
      expect(await keyOf('{user.org.name}', '/', {}, { user })).toBe('x:y%z');
      expect(await keyOf('{user.org.name}:{user.id}', '/', {}, { user })).toBe('x%3ay%25z:42');
      expect(await keyOf('{user.on}/{user.big}', '/', {}, { user })).toBe('true/10');
      expect(await keyOf('{user}', '/', {}, { user: 'ada' })).toBe('ada');
      expect(await keyOf('{method} {path}', '/a/b?c', { method: 'POST' })).toBe('POST /a/b');
      expect(await keyOf('{query.a}|{headers.X-B}|{ip}', '/?a=1', { headers: { 'x-b': 'b|c' } })).toBe(
        '1|b%7cc|127.0.0.1',
      );
    });

    test('a template has different keys for different values', async () => {
      const key = '{query.a}:{query.b}';
      const pairs = ['/?a=1:2&b=3', '/?a=1&b=2:3', '/?a=1%253a2&b=3', '/?a=1%3a&b=2', '/?a=1&b=%3a2'];
      const keys = await Promise.all(pairs.map((path) => keyOf(key, path)));
      expect(new Set(keys).size).toBe(pairs.length);
    });

    test.each([
      '{user.constructor.name}',
      '{user.__proto__.x}',
      '{user.toString.name}',
      '{user.list}',
      '{user.id.length}',
      '{user.nan}',
      '{user.none}',
      '{constructor.name}',
      '{query.a}x:{query.b}',
    ])('the placeholder of %s has no value', async (key) => {
      const answer = detail(
        await keyOf(key, '/?b=1', {}, { user: { id: 'ada', list: [1], nan: Number.NaN, none: null } }),
      );
      expect(answer).toBe(`The request has no value for ${key.includes('query') ? '{query.a}' : key}.`);
    });

    test('a function returns the key, also asynchronously', async () => {
      expect(await keyOf(() => 'me')).toBe('me');
      expect(await keyOf(async () => 7)).toBe('7');
      expect(await keyOf(() => 8n)).toBe('8');
      for (const nothing of [undefined, null, ''])
        expect(detail(await keyOf(async () => nothing))).toBe('The request has no rate limit key.');
      for (const wrong of [{}, true, false, Number.NaN])
        expect(await keyOf(() => wrong)).toMatch(
          /^500 failed (Type|Range)Error: the result of key\(\) must be a string or a number, received/,
        );
    });

    test('a request without a key is refused with 400, without a call of onLimited', async () => {
      const onLimited = vi.fn();
      const keyed = onePerKey();
      const handler = vi.fn(() => 'done');
      const site = await serve({ keyed, key: 'header:x-key', onLimited }, { handler });
      const seen = await get(site);
      expect([
        seen.status,
        seen.headers['content-type'],
        seen.headers['retry-after'],
        seen.headers['ratelimit'],
      ]).toEqual([400, expect.stringMatching(/^application\/problem\+json(;|$)/), undefined, undefined]);
      expect(JSON.parse(seen.body)).toEqual({
        type: 'about:blank',
        title: 'Bad Request',
        status: 400,
        detail: 'The request has no value for {headers.x-key}.',
      });
      expect([onLimited.mock.calls, handler.mock.calls, keyed.size]).toEqual([[], [], 0]);
      const watching = await serve({ keyed, key: 'header:x-key', block: false }, { handler });
      expect((await get(watching)).status).toBe(200);
    });

    test('each key has a limit of its own', async () => {
      const as = (key: string): [string, object] => ['/', { headers: { 'x-key': key } }];
      expect(await statusesWithOneSlot('header:x-key', as('a'), [as('a'), as('b'), as('a')])).toEqual([429, 200, 429]);
    });

    test('trap 32: a forwarding header is ignored, unless the framework trusts the proxy', async () => {
      const headers = {
        'x-forwarded-for': '203.0.113.7',
        forwarded: 'for=203.0.113.7',
        'x-real-ip': '203.0.113.7',
        'client-ip': '203.0.113.7',
        'cf-connecting-ip': '203.0.113.7',
        'x-forwarded-host': 'other',
      };
      expect(await keyOf('ip', '/', { headers })).toBe('ip:127.0.0.1');
      expect(await keyOf('{ip}', '/', { headers })).toBe('127.0.0.1');
      expect(await statusesWithOneSlot('ip', ['/'], [['/', { headers }]])).toEqual([429]);
      if (hasProxySetting) expect(await keyOf('ip', '/', { headers }, { trustProxy: true })).toBe('ip:203.0.113.7');
    });

    // The other frameworks have no setting for proxies, so all clients of this test have one address.
    if (hasProxySetting)
      test('trap 32: a client that rotates its IPv6 addresses counts as one client', async () => {
        const from = (address: string): [string, object] => ['/', { headers: { 'x-forwarded-for': address } }];
        const setting = { trustProxy: true };
        expect(await keyOf('ip', ...from('2001:db8:0:1ff::1'), setting)).toBe('ip:2001:db8:0:100::/56');
        expect(await keyOf('ip', ...from('::ffff:203.0.113.7'), setting)).toBe('ip:203.0.113.7');
        expect(await keyOf('ip', ...from('::FFFF:CB00:7107'), setting)).toBe('ip:203.0.113.7');
        expect(
          await statusesWithOneSlot(
            'ip',
            from('2001:db8:0:100::1'),
            [from('2001:db8:0:1ff::2'), from('2001:db8:0:200::1')],
            setting,
          ),
        ).toEqual([429, 200]);
        expect(
          await statusesWithOneSlot(
            'ip',
            from('2001:db8:0:100::1'),
            [from('2001:db8:0:1ff::2'), from('2001:db8:0:100:ffff::')],
            setting,
            { ipv6Prefix: 64 },
          ),
        ).toEqual([200, 429]);
      });

    test('trap 32: an IPv4 client of an IPv6 server counts as IPv4', async () => {
      const setting = { host: '::' };
      expect(await keyOf('ip', '/', { host: '127.0.0.1' }, setting)).toBe('ip:127.0.0.1');
      expect(await keyOf('ip', '/', { host: '::1' }, setting)).toBe('ip:0:0:0:0::/56');
    });
  });
});
