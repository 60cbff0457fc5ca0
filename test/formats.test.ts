/**
 * The ESM build and the CommonJS build in one process, loaded by `import` and `require` as in an installed package.
 * The parts of one format work with the parts of the other. The test needs `npm run build` first, as `npm test` does.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import type * as headgateModule from 'headgate';
import type * as fetchModule from 'headgate/fetch';
import type * as httpModule from 'headgate/http';
import type * as otelModule from 'headgate/otel';
import type * as redisModule from 'headgate/redis';
import type * as testingModule from 'headgate/testing';
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { entryPoints } from './support/entry-points.js';
import { removePath, temporaryFolder } from './support/processes.js';

/** The entry points that the tests use, in one format. */
interface Format {
  readonly headgate: typeof headgateModule;
  readonly fetch: typeof fetchModule;
  readonly http: typeof httpModule;
  readonly otel: typeof otelModule;
  readonly redis: typeof redisModule;
  readonly testing: typeof testingModule;
}

const folder = temporaryFolder('headgate-formats-');
const formats = {} as Record<'import' | 'require', Format>;

beforeAll(async () => {
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(fileURLToPath(new URL('..', import.meta.url)), join(folder, 'node_modules/headgate'));
  const load = join(folder, 'load.mjs');
  writeFileSync(load, 'export const load = (name) => import(name);');
  // In a file outside the repository, `import` and `require` are those of Node.
  const native = (await import(/* @vite-ignore */ pathToFileURL(load).href)) as {
    load(name: string): Promise<unknown>;
  };
  const require = createRequire(load);
  const loadAll = async (loadOne: (name: string) => unknown): Promise<Format> => {
    const names = Object.keys(entryPoints);
    const loaded = names.map(async (name) => [name.replace('headgate/', ''), await loadOne(name)]);
    return Object.fromEntries(await Promise.all(loaded)) as Format;
  };
  formats.import = await loadAll(native.load);
  formats.require = await loadAll(require);
});
afterAll(() => removePath(folder));

const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'no error',
    (error: unknown) => error,
  );

const request = (): Request => new Request('http://localhost/');

describe.each([
  { one: 'import', other: 'require' },
  { one: 'require', other: 'import' },
] as const)('parts of `$one` with gates of `$other`', ({ one, other }) => {
  const parts = (): Format => formats[one];
  const gates = (): Format['headgate'] => formats[other].headgate;

  test('are separate copies', () => {
    expect(parts().headgate.Throttle).not.toBe(gates().Throttle);
  });

  test('a Limiter acquires them in order and releases them together', async () => {
    const { Limiter, Resource } = parts().headgate;
    const clock = new (parts().testing.ManualClock)();
    const [own, foreign] = [new Resource(1), new (gates().Throttle)(1, 1, 60, { clock })];
    const limiter = new Limiter({ timeout: 5, resources: [own, foreign] });
    const permit = await limiter.acquire([own, foreign]);
    expect([own.active, foreign.active, permit.slots]).toEqual([1, 1, 1]);
    permit.release();
    expect([own.active, foreign.active]).toEqual([0, 0]);
    // The token is spent until the end of the minute, so the deadline cannot be met.
    expect(await failureOf(limiter.acquire([own, foreign]))).toMatchObject({
      name: 'ServerBusyError',
      status: 503,
      cause: { code: 'ERR_THROTTLE_TIMEOUT', retryAfter: 60 },
    });
    expect([own.active, foreign.active]).toEqual([0, 0]);
    permit.refund();
    expect(foreign.tokens).toBe(1);
  });

  test('a nested Limiter is a resource of another Limiter', async () => {
    const { Limiter } = parts().headgate;
    const foreign = new (gates().Resource)(1);
    const inner = new (gates().Limiter)({ timeout: 1, resources: [foreign] }).resources([foreign]);
    const outer = new Limiter({ timeout: 1, resources: [inner] });
    expect(await outer.resources([inner])(() => foreign.active)()).toBe(1);
    expect(foreign.active).toBe(0);
  });

  test('an adapter answers a refusal with 429 and a full or closed gate with 503, also with failOpen', async () => {
    const { web } = parts().http;
    const empty = new (gates().Throttle)(1, 0, 60);
    const full = new (gates().Throttle)(1, 1, 60, { maxQueue: 0 });
    for (const gate of [empty, full]) gate.tryAcquire();
    const closed = new (gates().Throttle)(1);
    closed.close();
    const statuses: number[] = [];
    for (const [gate, wait] of [
      [empty, 0],
      [full, 100],
      [closed, 0],
    ] as const)
      for (const failOpen of [false, true])
        statuses.push((await web(() => new Response(), { gate, wait, failOpen })(request())).status);
    expect(statuses).toEqual([429, 429, 503, 503, 503, 503]);
  });

  test('permitOf finds the permit of a request that the other adapter has limited', async () => {
    const gate = new (gates().Throttle)(10, 0, 60);
    const handler = formats[other].http.web(
      (incoming) => {
        parts().http.permitOf(incoming)?.refund();
        return new Response();
      },
      { gate },
    );
    await (await handler(request())).text();
    expect(gate.tokens).toBe(10);
  });

  test('one limit in adapters of both formats counts a request once', async () => {
    const gate = new (gates().Throttle)(10, 0, 60);
    const inner = formats[other].http.web(() => new Response(), { gate });
    await (await parts().http.web(inner, { gate })(request())).text();
    expect(Math.round(gate.tokens)).toBe(9);
  });

  test('throttledFetch pauses them on a refusal', async () => {
    const clock = new (parts().testing.ManualClock)();
    const gate = new (gates().Throttle)(10, 2, 1, { clock });
    const responses = [new Response('', { status: 429, headers: { 'retry-after': '7' } }), new Response('done')];
    const send = parts().fetch.throttledFetch(gate, { fetch: async () => responses.shift() as Response });
    const response = send('https://api.example/');
    await clock.advance(6);
    expect([responses.length, gate.waiting]).toEqual([1, 1]);
    await clock.advance(4);
    expect(await (await response).text()).toBe('done');
  });

  test('record and toSVG show their events', () => {
    const { record, toSVG } = parts().testing;
    for (const gate of [new (gates().Throttle)(10, 1), new (gates().Resource)(1)]) {
      const trace = record(gate);
      gate.tryAcquire()?.release();
      trace.stop();
      expect(trace.events.map(({ kind }) => kind)).toEqual(['granted', 'released']);
      expect(toSVG(trace)).toContain('<svg');
    }
  });

  test('metrics count each call once, though both formats instrument the provider', async () => {
    const exporter = new PrometheusExporter({ preventServerStart: true });
    const provider = new MeterProvider({ readers: [exporter] });
    const stop = parts().otel.instrument(provider);
    expect(formats[other].otel.instrument(provider)).toBe(stop);
    new (gates().Throttle)(10).tryAcquire()?.release();
    const { resourceMetrics } = await exporter.collect();
    const waits = resourceMetrics.scopeMetrics
      .flatMap(({ metrics }) => metrics)
      .find(({ descriptor }) => descriptor.name === 'headgate.wait.duration');
    expect(waits?.dataPoints).toMatchObject([{ value: { count: 1 } }]);
    stop();
    await provider.shutdown();
  });

  test('a RedisThrottle loads its client on demand and is a gate of an adapter and a Limiter', async () => {
    const { RedisThrottle } = formats[other].redis;
    const client = { url: inject('redisUrl') };
    const gate = new RedisThrottle({ client, key: `formats-${other}`, capacity: 2, concurrency: 1, period: 3600 });
    const limiter = new (parts().headgate.Limiter)({ timeout: 5, resources: [gate] });
    const permit = await limiter.acquire([gate]);
    const refused = await parts().http.web(() => new Response(), { gate })(request());
    permit.release();
    const served = await parts().http.web(() => new Response(), { gate, wait: 5 })(request());
    await served.text();
    expect([refused.status, served.status]).toEqual([429, 200]);
    await gate.close();
  });
});

test('a warning of both formats is emitted once', async () => {
  const emitWarning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  for (const { headgate, fetch } of [formats.import, formats.require, formats.import]) {
    const settle = (): void => {
      throw new Error('no cost');
    };
    const send = fetch.throttledFetch(new headgate.Throttle(10), { fetch: async () => new Response('done'), settle });
    expect(await (await send('https://api.example/')).text()).toBe('done');
    await new Promise((resolve) => void setTimeout(resolve, 10));
  }
  expect(emitWarning.mock.calls).toMatchObject([
    [expect.stringContaining('settle function'), { code: 'HEADGATE_SETTLE_FAILED' }],
  ]);
  emitWarning.mockRestore();
});

test('the calls of both formats are numbered together', () => {
  const numbers = [formats.import, formats.require, formats.import].flatMap(({ headgate, testing }) => {
    const throttle = new headgate.Throttle(10);
    const trace = testing.record(throttle);
    for (let call = 0; call < 3; call++) throttle.tryAcquire()?.release();
    trace.stop();
    return trace.events.flatMap((event) => (event.kind === 'granted' ? [event.id] : []));
  });
  expect(numbers).toHaveLength(9);
  const first = numbers[0] as number;
  expect(numbers).toEqual(Array.from({ length: 9 }, (_, index) => first + index));
});
