/**
 * The resources of a `Limiter` as a gate. The tests with underscores have the names of fastapi-concurrency-limiter's.
 */
import { describe, expect, test } from 'vitest';
import { Limiter } from '../../src/compose/limiter.js';
import { Resource } from '../../src/compose/resource.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { sites } from '../support/framework-servers.js';

const setUp = (timeout = 0, connections = 1): { database: Resource; files: Resource; limiter: Limiter } => {
  const database = new Resource(connections, { name: 'database' });
  const files = new Resource(2, { name: 'files' });
  return { database, files, limiter: new Limiter({ timeout, resources: [database, files] }) };
};

describe.each(sites)('fastapi_concurrency_limiter: %s', (_, serve) => {
  test('successful_request', async () => {
    const { database, files, limiter } = setUp();
    const site = await serve(
      { gate: limiter.resources([database, files]) },
      { handler: async () => `${database.active} ${files.active}` },
    );
    expect(await get(site)).toMatchObject({ status: 200, body: '1 1' });
    await until(() => database.active + files.active === 0);
  });

  test('503_when_capacity_exhausted', async () => {
    const { database, files, limiter } = setUp(0.02);
    const latch = new Latch();
    const site = await serve(
      { gate: limiter.resources([database, files]) },
      { handler: async () => (await latch.opened, 'done') },
    );
    const slow = call(site);
    await until(() => database.active === 1);
    const waiting = call(site);
    await until(() => database.waiting === 1);
    const seen = await waiting.seen;
    expect([seen.status, seen.headers['retry-after'], JSON.parse(seen.body)]).toEqual([
      503,
      '1',
      { detail: 'Server busy, please retry later' },
    ]);
    expect([database.active, files.active]).toEqual([1, 1]);
    latch.open();
    expect((await slow.seen).status).toBe(200);
  });

  test('semaphore_released_after_request', async () => {
    const { database, files, limiter } = setUp(5);
    const site = await serve({ gate: limiter.resources([database, files]) });
    for (let index = 0; index < 3; index++) expect((await get(site)).status).toBe(200);
    await until(() => database.active + files.active === 0);
  });

  test('semaphore_released_after_endpoint_exception', async () => {
    const { database, limiter } = setUp(5);
    const site = await serve(
      { gate: limiter.resources([database]) },
      {
        handler: async () => {
          throw new Error('no');
        },
      },
    );
    for (let index = 0; index < 3; index++) expect((await get(site)).status).toBe(500);
    await until(() => database.active === 0);
  });

  test('wrong_resource_order_raises', () => {
    const { database, files, limiter } = setUp();
    expect(() => serve({ gate: limiter.resources([files, database]) })).toThrow(RangeError);
  });

  test('unregistered_resource_raises', () => {
    const { database, limiter } = setUp();
    expect(() => serve({ gate: limiter.resources([database, new Resource(1)]) })).toThrow(RangeError);
  });

  test('concurrent_requests_within_capacity', async () => {
    const { database, files, limiter } = setUp(0, 2);
    const latch = new Latch();
    const site = await serve(
      { gate: limiter.resources([database, files]) },
      { handler: async () => (await latch.opened, 'done') },
    );
    const calls = [call(site), call(site)];
    await until(() => database.active === 2 && files.active === 2);
    latch.open();
    expect((await Promise.all(calls.map(({ seen }) => seen))).map(({ status }) => status)).toEqual([200, 200]);
    await until(() => database.active + files.active === 0);
  });

  test('a client that disconnects while it waits for the second resource releases the first', async () => {
    const { database, files, limiter } = setUp(60, 4);
    const holders = [files.tryAcquire(), files.tryAcquire()];
    const site = await serve({ gate: limiter.resources([database, files]) });
    const waiting = call(site);
    await until(() => files.waiting === 1);
    expect(database.active).toBe(1);
    waiting.hangUp();
    await until(() => database.active === 0 && files.waiting === 0);
    for (const holder of holders) holder?.release();
  });
});

test('resource_capacity_validation', () => {
  for (const capacity of [0, -1, 1.5, Number.NaN, Infinity]) expect(() => new Resource(capacity)).toThrow(RangeError);
  expect(new Resource(1).capacity).toBe(1);
});
