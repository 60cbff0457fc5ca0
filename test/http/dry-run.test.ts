/** A dry run, in every adapter: with `block: false`, `onLimited` reports refusals that have no effect (FAULTS 31). */
import { type Gate, KeyedThrottle, QueueFullError, ServerBusyError, Throttle } from 'headgate';
import { concurrencyLimit, type Refusal } from 'headgate/http';
import { describe, expect, test, vi } from 'vitest';
import { fullGate } from '../support/fixed-gates.js';
import { sites } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';

describe.each(sites)('%s', (_name, serve) => {
  test('onLimited receives the refusal with dryRun, and the handler runs', async () => {
    const onLimited = vi.fn((_refusal: Refusal, ..._args: unknown[]) => ({ error: 'ignored' }));
    const keyed = new KeyedThrottle(1, 0, 60);
    const site = await serve({ keyed, key: 'header:x-key', block: false, onLimited });
    const headers = { 'x-key': 'ada' };
    expect((await get(site, '/', { headers })).status).toBe(200);
    expect(onLimited).not.toHaveBeenCalled();
    const seen = await get(site, '/', { headers });
    expect([seen.status, seen.body, seen.headers['retry-after']]).toEqual([200, 'done', undefined]);
    expect(onLimited).toHaveBeenCalledOnce();
    const [refusal, ...args] = onLimited.mock.calls[0]!;
    expect(refusal).toMatchObject({ status: 429, key: 'header:x-key:ada', dryRun: true });
    expect(refusal.retryAfter).toBeGreaterThan(58);
    expect(refusal.error.code).toBe('ERR_THROTTLE_TIMEOUT');
    expect(args.length).toBeGreaterThan(0);
    expect([site.failures, site.logged]).toEqual([[], []]);
  });

  test('a refusal that takes effect has no dryRun', async () => {
    const onLimited = vi.fn((_refusal: Refusal) => 'no');
    const site = await serve({ gate: fullGate(), onLimited });
    expect(await get(site)).toMatchObject({ status: 429, body: 'no' });
    expect('dryRun' in onLimited.mock.calls[0]![0]).toBe(false);
  });

  test.each([new ServerBusyError(), new QueueFullError('full')])('%s is reported with status 503', async (error) => {
    const onLimited = vi.fn((_refusal: Refusal) => {});
    const acquire = async (): Promise<never> => {
      throw error;
    };
    const gate = { acquire } as unknown as Gate;
    const site = await serve({ gate, block: false, onLimited });
    expect((await get(site)).status).toBe(200);
    expect(onLimited.mock.calls[0]![0]).toMatchObject({ status: 503, dryRun: true, error });
  });

  test.each<[string, () => unknown, boolean]>([
    [
      'throws',
      () => {
        throw new Error('broken');
      },
      true,
    ],
    ['rejects', () => Promise.reject(new Error('broken')), true],
    ['rejects with undefined', () => Promise.reject(undefined), true],
    ['never settles', () => new Promise(() => {}), false],
    [
      'returns a getter that throws',
      () =>
        Object.defineProperty({}, 'then', {
          get: () => {
            throw new Error('broken');
          },
        }),
      true,
    ],
    ['returns a Response', () => new Response('other', { status: 418 }), false],
    ['returns a string', () => 'other', false],
  ])('an onLimited that %s does not affect the request', async (_what, onLimited, isLogged) => {
    const site = await serve({ gate: fullGate(), block: false, onLimited: onLimited as () => object });
    expect(await get(site)).toMatchObject({ status: 200, body: 'done' });
    expect([site.failures, site.logged.length]).toEqual([[], isLogged ? 1 : 0]);
  });

  test("onLimited: 'throw' has no effect", async () => {
    const site = await serve({ gate: fullGate(), block: false, onLimited: 'throw' });
    expect(await get(site)).toMatchObject({ status: 200, body: 'done' });
    expect(site.failures).toEqual([]);
  });

  test('a dry run takes nothing from the gate, and leaves the limits of the request as they are', async () => {
    const latch = new Latch();
    const outer = new Throttle(Infinity, 10);
    const onLimited = vi.fn();
    const limit = concurrencyLimit<never[]>({ key: () => 'me', maxConcurrent: 1, block: false, onLimited });
    const site = await serve([{ gate: outer }, limit], { handler: async () => (await latch.opened, 'done') });
    const calls = [call(site), call(site), call(site)];
    await until(() => onLimited.mock.calls.length === 2);
    expect(outer.active).toBe(3);
    latch.open();
    await Promise.all(calls.map(({ seen }) => seen));
    await until(() => outer.active === 0);
  });
});
