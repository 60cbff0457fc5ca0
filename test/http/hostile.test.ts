/** Clients that want to harm, and proxies that nobody has told the framework of. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KeyedThrottle, QueueFullError } from 'headgate';
import { concurrencyLimit, web } from 'headgate/http';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type ConnectionView, warnIfProxyUntrusted } from '../../src/http/platform/proxy.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';

type Warning = Error & { code?: string };
const warnings: Warning[] = [];
const collect = (warning: Warning): void => void (warning.name === 'HeadgateWarning' && warnings.push(warning));
/** As a process that has given no warning yet. */
const forget = (): unknown => Reflect.deleteProperty(globalThis, Symbol.for('headgate.warnings'));

beforeEach(() => {
  forget();
  warnings.length = 0;
  process.on('warning', collect);
});
afterEach(() => {
  process.off('warning', collect);
  vi.unstubAllGlobals();
  forget();
});

/** The warnings given so far: a process gives them in a later tick. */
const given = async (): Promise<Warning[]> => {
  await new Promise((resolve) => void setImmediate(resolve));
  return warnings;
};

const forwarded = (value: string): object => ({ headers: { 'x-forwarded-for': value } });
const keyed = (): KeyedThrottle => new KeyedThrottle(1_000, 0, 3_600);

describe.each(sites)('a proxy in front of %s', (name, serve) => {
  const knowsProxies = ['express', 'koa', 'fastify'].includes(name);

  test('that is not trusted gets one warning for the process, which names the setting (FAULTS 28, express-rate-limit#363)', async () => {
    const one = await serve({ keyed: keyed(), key: 'ip' });
    const other = await serve({ keyed: keyed(), key: '{method} {ip}' });
    for (const client of ['203.0.113.7', '203.0.113.8, 10.0.0.1', '2001:db8::1']) {
      expect((await get(one, '/', forwarded(client))).status).toBe(200);
      expect((await get(other, '/', forwarded(client))).status).toBe(200);
    }
    expect((await given()).map(({ code }) => code)).toEqual(['HEADGATE_UNTRUSTED_PROXY']);
    expect(warnings[0]?.message).toMatch(/"127\.0\.0\.1".*'trust proxy'.*app\.proxy.*trustProxy.*key function/);
  });

  test.each<[string, string, Record<string, string>]>([
    ['Forwarded', 'ip', { forwarded: 'proto=http;for="[2001:db8::1]:4711";by=10.0.0.1' }],
    ['Forwarded', 'ip', { forwarded: 'for=127.0.0.1, for=203.0.113.7' }],
    ['Forwarded', 'user', { forwarded: 'For=_hidden' }],
    ['X-Forwarded-For', 'user', { 'x-forwarded-for': '203.0.113.7' }],
    ['X-Forwarded-For', 'user_or_ip', { 'x-forwarded-for': '203.0.113.7, 127.0.0.1' }],
  ])('is noticed by %s where the key is %s, with %j (FAULTS 28, express-rate-limit#363)', async (_, key, headers) => {
    const site = await serve({ keyed: keyed(), key });
    expect((await get(site, '/', { headers })).status).toBe(200);
    expect((await given()).map(({ code }) => code)).toEqual(['HEADGATE_UNTRUSTED_PROXY']);
  });

  test('gets no warning where the address of the connection is the client, or does not matter (FAULTS 28)', async () => {
    const byAddress = await serve({ keyed: keyed(), key: 'ip' });
    const byUser = await serve({ keyed: keyed(), key: 'user' }, { user: { id: 'ada' } });
    const byHeader = await serve({ keyed: keyed(), key: 'header:x-forwarded-for' });
    const byFunction = await serve({ keyed: keyed(), key: () => 'me' });
    await get(byAddress);
    for (const value of ['127.0.0.1', '127.0.0.1, 127.0.0.1:4711', '::ffff:127.0.0.1'])
      await get(byAddress, '/', forwarded(value));
    await get(byAddress, '/', { headers: { forwarded: 'for=127.0.0.1;proto=https' } });
    for (const site of [byUser, byHeader, byFunction]) await get(site, '/', forwarded('203.0.113.7'));
    expect(await given()).toEqual([]);
  });

  if (knowsProxies)
    test('gets no warning where the framework trusts it (FAULTS 28)', async () => {
      const site = await serve({ keyed: keyed(), key: 'ip' }, { trustProxy: true });
      for (const client of ['203.0.113.7', '203.0.113.8, 10.0.0.1']) await get(site, '/', forwarded(client));
      expect(await given()).toEqual([]);
    });

  test('on a Unix socket has to be trusted: until then each request is refused, and told why (FAULTS 28)', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'headgate-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const untrusted = join(folder, 'untrusted');
    const gates = keyed();
    const site = await serve({ keyed: gates, key: 'ip' }, { host: untrusted });
    for (const client of ['203.0.113.7', '203.0.113.8']) {
      const seen = await get(site, '/', { host: untrusted, ...forwarded(client) });
      expect([seen.status, JSON.parse(seen.body)]).toMatchObject([
        400,
        {
          detail:
            'The request has no client address; behind a proxy on a Unix socket, the server must trust the proxy.',
        },
      ]);
    }
    expect([gates.size, (await given()).map(({ code, message }) => `${code} ${message}`)]).toEqual([
      0,
      [expect.stringMatching(/^HEADGATE_UNTRUSTED_PROXY .*Unix socket.*'trust proxy'/)],
    ]);
    if (!knowsProxies) return;
    const trusted = join(folder, 'trusted');
    const other = await serve({ keyed: gates, key: 'ip' }, { host: trusted, trustProxy: true });
    expect((await get(other, '/', { host: trusted, ...forwarded('203.0.113.7') })).status).toBe(200);
    expect([gates.peek('ip:203.0.113.7')?.capacity, warnings.length]).toEqual([1_000, 1]);
  });
});

describe('the warning of a proxy', () => {
  const connection = (more: Partial<ConnectionView<[]>> = {}): ConnectionView<[]> => ({
    socketAddress: () => '10.0.0.1',
    isClosed: () => false,
    header: (name) => (name === 'x-forwarded-for' ? '203.0.113.7' : undefined),
    ...more,
  });

  test('is not given for a connection that has ended, and has no address any more', async () => {
    warnIfProxyUntrusted(undefined, connection({ socketAddress: () => undefined, isClosed: () => true }), []);
    expect(await given()).toEqual([]);
    warnIfProxyUntrusted(undefined, connection({ socketAddress: () => undefined }), []);
    expect(await given()).toHaveLength(1);
  });

  test('is not given where the framework states another address than the one of the connection', async () => {
    warnIfProxyUntrusted('203.0.113.7', connection(), []);
    warnIfProxyUntrusted('203.0.113.7', connection({ socketAddress: () => undefined }), []);
    expect(await given()).toEqual([]);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    expect(await given()).toHaveLength(1);
  });

  test('looks at four addresses at the most, however many a client sends', () => {
    const values = `${'10.0.0.1,'.repeat(4)}203.0.113.7`;
    warnIfProxyUntrusted('10.0.0.1', connection({ header: () => values }), []);
    expect((globalThis as { [key: symbol]: unknown })[Symbol.for('headgate.warnings')]).toBeUndefined();
  });

  test('goes to the console where the process takes none', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    onTestFinished(() => warn.mockRestore());
    vi.stubGlobal('process', undefined);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    vi.unstubAllGlobals();
    expect(warn.mock.calls).toEqual([[expect.stringMatching(/^HEADGATE_UNTRUSTED_PROXY: /)]]);
  });

  test('is given once, however many copies of the package there are (FAULTS 9, 28)', async () => {
    vi.resetModules();
    const copy = await import('../../src/http/platform/proxy.js');
    expect(copy.warnIfProxyUntrusted).not.toBe(warnIfProxyUntrusted);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    copy.warnIfProxyUntrusted('10.0.0.1', connection(), []);
    expect(await given()).toHaveLength(1);
  });
});

describe('many keys', () => {
  /** A server whose handlers wait for the latch. */
  const slow = (options: Parameters<typeof web>[1]): { ask: (key: string) => Promise<Response>; latch: Latch } => {
    const latch = new Latch();
    const serve = web(async () => (await latch.opened, new Response('done')), options);
    return { latch, ask: (key) => serve(new Request('http://x/', { headers: { 'x-key': key } })) };
  };
  /** A keyed gate that shows `maxKeys`. */
  const bounded = (maxKeys: number | undefined, gates: KeyedThrottle): KeyedThrottle =>
    Object.defineProperty(gates, 'maxKeys', { value: maxKeys });

  test('of a gate without a bound: 100,000 may be live, then new ones are refused with 503 and a warning (FAULTS 35)', async () => {
    const gates = bounded(Infinity, new KeyedThrottle(100, 4, 3_600));
    const errors: unknown[] = [];
    const { ask, latch } = slow({
      keyed: gates,
      key: '{headers.x-key}',
      onLimited: ({ error }) => void errors.push(error),
    });
    latch.open();
    for (let index = 0; index < 99_999; index++) gates.tryAcquire(`key ${index}`)?.release();
    expect([(await ask('the last')).status, gates.size, await given()]).toEqual([200, 100_000, []]);
    const refused = await ask('one more');
    expect([refused.status, (await ask('another')).status, refused.headers.has('retry-after'), gates.size]).toEqual([
      503,
      503,
      true,
      100_000,
    ]);
    expect(errors).toEqual([expect.any(QueueFullError), expect.any(QueueFullError)]);
    expect((await given()).map(({ code }) => code)).toEqual(['HEADGATE_MAX_KEYS']);
    // The clients that are known go on.
    expect([(await ask('key 7')).status, (await ask('the last')).status]).toEqual([200, 200]);
  });

  test.each<[string, number | undefined]>([
    ['a bound of its own', 200_000],
    ['no word about a bound', undefined],
  ])('of a gate with %s are left to the gate', async (_, maxKeys) => {
    const acquired: string[] = [];
    const gates = Object.assign(bounded(maxKeys, new KeyedThrottle(1)), {
      acquire: async (key: string) => (acquired.push(key), { release() {}, refund() {} }),
    });
    Object.defineProperty(gates, 'size', { value: 150_000 });
    const { ask, latch } = slow({ keyed: gates, key: '{headers.x-key}' });
    latch.open();
    expect([(await ask('one more')).status, acquired]).toEqual([200, ['one more']]);
  });

  test('concurrencyLimit counts 100,000 keys at a time, unless maxKeys says otherwise (FAULTS 35)', () => {
    const gates = (maxKeys?: number): KeyedThrottle =>
      concurrencyLimit({ key: 'ip', maxConcurrent: 1, maxKeys }).keyed as KeyedThrottle;
    for (const [own, expected] of [
      [gates(), 100_000],
      [gates(3), 3],
    ] as const) {
      const permits = Array.from({ length: expected }, (_, index) => own.tryAcquire(`key ${index}`));
      expect([permits.filter((permit) => permit === undefined).length, own.tryAcquire('one more'), own.size]).toEqual([
        0,
        undefined,
        expected,
      ]);
      permits[0]?.release();
      expect(own.tryAcquire('one more')?.cost).toBe(1);
    }
  });

  test.each(sites)(
    'a client with a new key gets 503 from %s while maxKeys others are served, and then is served',
    async (_, serve) => {
      const latch = new Latch();
      let inside = 0;
      const as = (key: string): object => ({ headers: { 'x-key': key } });
      const site = await serve(concurrencyLimit({ key: 'header:x-key', maxConcurrent: 1, maxKeys: 2 }), {
        handler: async () => (inside++, await latch.opened, 'done'),
      });
      const calls = ['a', 'b'].map((key) => call(site, '/', as(key)));
      await until(() => inside === 2);
      expect([(await get(site, '/', as('c'))).status, (await get(site, '/', as('a'))).status]).toEqual([503, 429]);
      latch.open();
      expect((await Promise.all(calls.map(({ seen }) => seen))).map(({ status }) => status)).toEqual([200, 200]);
      await until(() => inside === 2);
      let status = 503;
      for (let tries = 0; status !== 200 && tries < 50; tries++) ({ status } = await get(site, '/', as('c')));
      expect(status).toBe(200);
    },
  );
});
