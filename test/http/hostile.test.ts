/** Untrusted proxies, and clients that invent keys. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KeyedThrottle, QueueFullError } from 'headgate';
import { concurrencyLimit, web } from 'headgate/http';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type ConnectionView, warnIfProxyUntrusted } from '../../src/http/platform/untrusted-proxy.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';

type Warning = Error & { code?: string };
const warnings: Warning[] = [];
const collect = (warning: Warning): void => void (warning.name === 'HeadgateWarning' && warnings.push(warning));
/** Makes this process one that has emitted no warning yet. */
const resetWarnings = (): unknown => Reflect.deleteProperty(globalThis, Symbol.for('headgate.warnings'));

beforeEach(() => {
  resetWarnings();
  warnings.length = 0;
  process.on('warning', collect);
});
afterEach(() => {
  process.off('warning', collect);
  vi.unstubAllGlobals();
  resetWarnings();
});

/** The warnings emitted so far. A process emits them in a later tick. */
const emittedWarnings = async (): Promise<Warning[]> => {
  await new Promise((resolve) => void setImmediate(resolve));
  return warnings;
};

const forwarded = (value: string): object => ({ headers: { 'x-forwarded-for': value } });
const keyed = (): KeyedThrottle => new KeyedThrottle(1_000, 0, 3_600);

describe.each(sites)('%s behind a proxy', (name, serve) => {
  const hasProxySetting = ['express', 'koa', 'fastify'].includes(name);

  test('emits one warning for the process, which names the setting (FAULTS 28, express-rate-limit#363)', async () => {
    const one = await serve({ keyed: keyed(), key: 'ip' });
    const other = await serve({ keyed: keyed(), key: '{method} {ip}' });
    for (const client of ['203.0.113.7', '203.0.113.8, 10.0.0.1', '2001:db8::1']) {
      expect((await get(one, '/', forwarded(client))).status).toBe(200);
      expect((await get(other, '/', forwarded(client))).status).toBe(200);
    }
    expect((await emittedWarnings()).map(({ code }) => code)).toEqual(['HEADGATE_UNTRUSTED_PROXY']);
    expect(warnings[0]?.message).toMatch(/"127\.0\.0\.1".*'trust proxy'.*app\.proxy.*trustProxy.*key function/);
  });

  test.each<[string, string, Record<string, string>]>([
    ['Forwarded', 'ip', { forwarded: 'proto=http;for="[2001:db8::1]:4711";by=10.0.0.1' }],
    ['Forwarded', 'ip', { forwarded: 'for=127.0.0.1, for=203.0.113.7' }],
    ['Forwarded', 'user', { forwarded: 'For=_hidden' }],
    ['X-Forwarded-For', 'user', { 'x-forwarded-for': '203.0.113.7' }],
    ['X-Forwarded-For', 'user_or_ip', { 'x-forwarded-for': '203.0.113.7, 127.0.0.1' }],
  ])('emits a warning for %s and the key %s, with %j (FAULTS 28, express-rate-limit#363)', async (_, key, headers) => {
    const site = await serve({ keyed: keyed(), key });
    expect((await get(site, '/', { headers })).status).toBe(200);
    expect((await emittedWarnings()).map(({ code }) => code)).toEqual(['HEADGATE_UNTRUSTED_PROXY']);
  });

  test('emits no warning if the header names the socket address, or no key uses the address (FAULTS 28)', async () => {
    const byAddress = await serve({ keyed: keyed(), key: 'ip' });
    const byUser = await serve({ keyed: keyed(), key: 'user' }, { user: { id: 'ada' } });
    const byHeader = await serve({ keyed: keyed(), key: 'header:x-forwarded-for' });
    const byFunction = await serve({ keyed: keyed(), key: () => 'me' });
    await get(byAddress);
    for (const value of ['127.0.0.1', '127.0.0.1, 127.0.0.1:4711', '::ffff:127.0.0.1'])
      await get(byAddress, '/', forwarded(value));
    await get(byAddress, '/', { headers: { forwarded: 'for=127.0.0.1;proto=https' } });
    for (const site of [byUser, byHeader, byFunction]) await get(site, '/', forwarded('203.0.113.7'));
    expect(await emittedWarnings()).toEqual([]);
  });

  if (hasProxySetting)
    test('emits no warning for a trusted proxy (FAULTS 28)', async () => {
      const site = await serve({ keyed: keyed(), key: 'ip' }, { trustProxy: true });
      for (const client of ['203.0.113.7', '203.0.113.8, 10.0.0.1']) await get(site, '/', forwarded(client));
      expect(await emittedWarnings()).toEqual([]);
    });

  test('on a Unix socket refuses each request with the reason, until the proxy is trusted (FAULTS 28)', async () => {
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
    expect([gates.size, (await emittedWarnings()).map(({ code, message }) => `${code} ${message}`)]).toEqual([
      0,
      [expect.stringMatching(/^HEADGATE_UNTRUSTED_PROXY .*Unix socket.*'trust proxy'/)],
    ]);
    if (!hasProxySetting) return;
    const trusted = join(folder, 'trusted');
    const other = await serve({ keyed: gates, key: 'ip' }, { host: trusted, trustProxy: true });
    expect((await get(other, '/', { host: trusted, ...forwarded('203.0.113.7') })).status).toBe(200);
    expect([gates.peek('ip:203.0.113.7')?.capacity, warnings.length]).toEqual([1_000, 1]);
  });
});

describe('the warning about a proxy', () => {
  const connection = (more: Partial<ConnectionView<[]>> = {}): ConnectionView<[]> => ({
    socketAddress: () => '10.0.0.1',
    isClosed: () => false,
    header: (name) => (name === 'x-forwarded-for' ? '203.0.113.7' : undefined),
    ...more,
  });

  test('is not emitted for a closed connection, which has no address', async () => {
    warnIfProxyUntrusted(undefined, connection({ socketAddress: () => undefined, isClosed: () => true }), []);
    expect(await emittedWarnings()).toEqual([]);
    warnIfProxyUntrusted(undefined, connection({ socketAddress: () => undefined }), []);
    expect(await emittedWarnings()).toHaveLength(1);
  });

  test('is not emitted if the framework states another address than the socket', async () => {
    warnIfProxyUntrusted('203.0.113.7', connection(), []);
    warnIfProxyUntrusted('203.0.113.7', connection({ socketAddress: () => undefined }), []);
    expect(await emittedWarnings()).toEqual([]);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    expect(await emittedWarnings()).toHaveLength(1);
  });

  test('is not emitted if only the fifth address of the header names another client', () => {
    const values = `${'10.0.0.1,'.repeat(4)}203.0.113.7`;
    warnIfProxyUntrusted('10.0.0.1', connection({ header: () => values }), []);
    expect((globalThis as { [key: symbol]: unknown })[Symbol.for('headgate.warnings')]).toBeUndefined();
  });

  test('goes to the console where there is no `process.emitWarning`', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    onTestFinished(() => warn.mockRestore());
    vi.stubGlobal('process', undefined);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    vi.unstubAllGlobals();
    expect(warn.mock.calls).toEqual([[expect.stringMatching(/^HEADGATE_UNTRUSTED_PROXY: /)]]);
  });

  test('is emitted once for all copies of the package (FAULTS 9, 28)', async () => {
    vi.resetModules();
    const copy = await import('../../src/http/platform/untrusted-proxy.js');
    expect(copy.warnIfProxyUntrusted).not.toBe(warnIfProxyUntrusted);
    warnIfProxyUntrusted('10.0.0.1', connection(), []);
    copy.warnIfProxyUntrusted('10.0.0.1', connection(), []);
    expect(await emittedWarnings()).toHaveLength(1);
  });
});

describe('a client that invents keys', () => {
  /** A server whose handlers wait for the latch. */
  const serveSlowly = (
    options: Parameters<typeof web>[1],
  ): { send: (key: string) => Promise<Response>; latch: Latch } => {
    const latch = new Latch();
    const serve = web(async () => (await latch.opened, new Response('done')), options);
    return { latch, send: (key) => serve(new Request('http://x/', { headers: { 'x-key': key } })) };
  };
  /** A keyed gate that shows `maxKeys`. */
  const withMaxKeys = (maxKeys: number | undefined, gates: KeyedThrottle): KeyedThrottle =>
    Object.defineProperty(gates, 'maxKeys', { value: maxKeys });

  test('gets 503 and causes one warning when 100,000 keys of a gate without a bound are live (FAULTS 35)', async () => {
    const gates = withMaxKeys(Infinity, new KeyedThrottle(100, 4, 3_600));
    const errors: unknown[] = [];
    const { send, latch } = serveSlowly({
      keyed: gates,
      key: '{headers.x-key}',
      onLimited: ({ error }) => void errors.push(error),
    });
    latch.open();
    for (let index = 0; index < 99_999; index++) gates.tryAcquire(`key ${index}`)?.release();
    expect([(await send('the last')).status, gates.size, await emittedWarnings()]).toEqual([200, 100_000, []]);
    const refused = await send('one more');
    expect([refused.status, (await send('another')).status, refused.headers.has('retry-after'), gates.size]).toEqual([
      503,
      503,
      true,
      100_000,
    ]);
    expect(errors).toEqual([expect.any(QueueFullError), expect.any(QueueFullError)]);
    expect((await emittedWarnings()).map(({ code }) => code)).toEqual(['HEADGATE_MAX_KEYS']);
    // Known clients are still served.
    expect([(await send('key 7')).status, (await send('the last')).status]).toEqual([200, 200]);
  });

  test.each<[string, number | undefined]>([
    ['maxKeys of its own', 200_000],
    ['no member maxKeys', undefined],
  ])('is admitted by a gate with %s, which has its own bound', async (_, maxKeys) => {
    const acquired: string[] = [];
    const gates = Object.assign(withMaxKeys(maxKeys, new KeyedThrottle(1)), {
      acquire: async (key: string) => (acquired.push(key), { release() {}, refund() {} }),
    });
    Object.defineProperty(gates, 'size', { value: 150_000 });
    const { send, latch } = serveSlowly({ keyed: gates, key: '{headers.x-key}' });
    latch.open();
    expect([(await send('one more')).status, acquired]).toEqual([200, ['one more']]);
  });

  test('can use 100,000 keys of concurrencyLimit at a time, or `maxKeys` (FAULTS 35)', () => {
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
    'gets 503 from %s while maxKeys other keys have requests, and is served afterwards',
    async (_, serve) => {
      const latch = new Latch();
      let running = 0;
      const as = (key: string): object => ({ headers: { 'x-key': key } });
      const site = await serve(concurrencyLimit({ key: 'header:x-key', maxConcurrent: 1, maxKeys: 2 }), {
        handler: async () => (running++, await latch.opened, 'done'),
      });
      const calls = ['a', 'b'].map((key) => call(site, '/', as(key)));
      await until(() => running === 2);
      expect([(await get(site, '/', as('c'))).status, (await get(site, '/', as('a'))).status]).toEqual([503, 429]);
      latch.open();
      expect((await Promise.all(calls.map(({ seen }) => seen))).map(({ status }) => status)).toEqual([200, 200]);
      await until(() => running === 2);
      let status = 503;
      for (let tries = 0; status !== 200 && tries < 50; tries++) ({ status } = await get(site, '/', as('c')));
      expect(status).toBe(200);
    },
  );
});
