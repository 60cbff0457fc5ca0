/** Every entry point in Jest, compiled to CommonJS by ts-jest and by babel-jest. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { metrics } from '@opentelemetry/api';
import { KeyedThrottle, Limiter, Resource, Throttle, ThrottleTimeoutError } from 'headgate';
import { throttledFetch } from 'headgate/fetch';
import { express, web } from 'headgate/http';
import { instrument } from 'headgate/otel';
import { RedisThrottle } from 'headgate/redis';
import { ManualClock, record, toSVG } from 'headgate/testing';

/** Entry points whose peers only another consumer has. */
const ELSEWHERE = new Set(['./nest', './package.json']);

test('every entry point can be required', () => {
  const { exports } = require('headgate/package.json') as { exports: object };
  const paths = Object.keys(exports).filter((path) => !ELSEWHERE.has(path));
  expect(paths.length).toBeGreaterThanOrEqual(6);
  for (const path of paths) expect(require(`headgate${path.slice(1)}`)).toHaveProperty('__esModule', true);
});

test('the CommonJS build is loaded', () => {
  expect(require.resolve('headgate')).toMatch(/dist\/cjs\/index\.js$/);
});

test('a throttle limits concurrency, and its permits are disposable', async () => {
  const throttle = new Throttle(Infinity, 1);
  {
    await using permit = await throttle.acquire();
    expect([permit.slots, throttle.active, throttle.tryAcquire()]).toEqual([1, 1, undefined]);
  }
  expect(throttle.active).toBe(0);
  await expect(throttle.run(() => 'done')).resolves.toBe('done');
});

test('errors are instances of their class and carry a code', async () => {
  const throttle = new Throttle(1, 0, 60);
  throttle.tryAcquire();
  const error: unknown = await throttle.acquire(1, { timeout: 1 }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ThrottleTimeoutError);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT', retryAfter: expect.closeTo(60, 0) });
});

test('compositions', async () => {
  const keyed = new KeyedThrottle<string>(1, 0, 60);
  expect([keyed.tryAcquire('ada') !== undefined, keyed.tryAcquire('ada'), keyed.size]).toEqual([true, undefined, 1]);
  const [database, files] = [new Resource(1), new Resource(1)];
  const limiter = new Limiter({ timeout: 1, resources: [database, files] });
  await limiter.resources([database, files])(() => expect([database.active, files.active]).toEqual([1, 1]))();
  expect([database.active, files.active]).toEqual([0, 0]);
});

test('a fetch and a server', async () => {
  const limit = express({ gate: new Throttle(1, 0, 60) });
  const server = createServer((request, response) => {
    void limit(request as never, response as never, () => void response.end('served'));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  try {
    const send = throttledFetch(new Throttle(10), { retries: 0 });
    const served = await send(url);
    expect([served.status, await served.text()]).toEqual([200, 'served']);
    const refused = await send(url);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '60']);
    await refused.text();
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => void server.close(resolve));
  }
  const handler = web(() => new Response('served'), { gate: new Throttle(10) });
  await expect((await handler(new Request('http://localhost/'))).text()).resolves.toBe('served');
});

test('metrics, a recording and its timeline', async () => {
  const stop = instrument(metrics.getMeterProvider());
  const throttle = new Throttle(10, 2, 1, { clock: new ManualClock() });
  const trace = record(throttle);
  await throttle.run(() => 'done');
  trace.stop();
  stop();
  expect(trace.events.map(({ kind }) => kind)).toEqual(['granted', 'released']);
  expect(toSVG(trace)).toContain('<svg');
});

test('a throttle on Redis loads the client on demand', async () => {
  const client = { url: process.env['REDIS_URL'] as string };
  const fleet = new RedisThrottle({ client, key: `jest-${expect.getState().testPath}-${process.pid}`, concurrency: 1 });
  await expect(fleet.run((permit) => permit.slot)).resolves.toBe(1);
  await fleet.close();
});
