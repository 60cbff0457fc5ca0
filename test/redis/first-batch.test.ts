/** The first batch of an owner creates the owner. A client may send it again after Redis has lost its data. */
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { Outcomes } from '../support/support.js';
import { scene, untilKnown, watch } from './server-scene.js';
import { until } from './support.js';

scene('a lease that came by message survives when the client itself repeats the first batch', async (it) => {
  const net = await it.network();
  const client = it.ioredis({ retryStrategy: () => 20 }, net.url);
  await client.ping();
  // The messages travel on a connection that keeps its replies.
  const direct = it.ioredis();
  client.duplicate = ((options: object) => direct.duplicate(options)) as Redis['duplicate'];
  const there = await it.network();
  const limits = { concurrency: 2, ttl: 10, commandTimeout: 8 };
  const other = it.throttle(it.ioredis({}, there.url), limits);
  const throttle = it.throttle(client, { ...limits, key: other.key });
  const known = watch(it, throttle);
  const [first, second] = [await other.acquire(), await other.acquire()];
  expect([first.slot, second.slot]).toEqual([1, 2]);
  net.dropsReplies = true;
  const acquiring = throttle.acquire();
  await untilKnown(known, [1, 2], 1);
  // The grant comes by message only.
  await until('both subscriptions', async () => ((await it.admin.pubsub('CHANNELS')) as string[]).length === 2);
  second.release();
  const permit = await acquiring;
  expect(permit.slot).toBe(2);
  // Redis loses its data, and the other process stays away for a while.
  there.closed = true;
  there.cut();
  await it.server.kill();
  net.dropsReplies = false;
  net.cut();
  await it.server.start();
  await untilKnown(known, [2], 0);
  there.closed = false;
  await untilKnown(known, [1, 2], 0);
  expect([first.signal.aborted, permit.signal.aborted]).toEqual([false, false]);
  const outcomes = new Outcomes();
  outcomes.follow('waiter', other.acquire());
  await untilKnown(known, [1, 2], 1);
  permit.release();
  await until('the waiter is served', () => outcomes.order.length > 0);
  expect(outcomes.permit('waiter')).toMatchObject({ slot: 2 });
});
