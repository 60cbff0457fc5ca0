/** Several processes share a gate without a rate, on a fake Redis and a manual clock. */
import { type LeaseLostError, type RedisPermit, RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';
import { FakeClient, FakeRedis } from './fake-redis.js';

const TTL = 6;

/** A fleet whose processes have one throttle each. */
class Fleet {
  readonly clock: ManualClock = new ManualClock(1_000);
  readonly redis: FakeRedis = new FakeRedis(this.clock);
  readonly outcomes: Outcomes = new Outcomes();

  start(options: Partial<RedisThrottleOptions> = {}): { client: FakeClient; throttle: RedisThrottle } {
    const client = new FakeClient(this.redis);
    const { clock } = this;
    return { client, throttle: new RedisThrottle({ client, key: 'k', concurrency: 1, ttl: TTL, clock, ...options }) };
  }

  /** Follows a call of `acquire` under a name. */
  async acquire(name: string, throttle: RedisThrottle, options?: { signal?: AbortSignal }): Promise<void> {
    this.outcomes.follow(name, throttle.acquire(1, options));
    await this.settle();
  }

  /** Releases the permit of a call. */
  async release(name: string): Promise<void> {
    this.outcomes.permit(name).release();
    await this.settle();
  }

  permit(name: string): RedisPermit {
    return this.outcomes.permit(name) as RedisPermit;
  }

  get order(): string {
    return this.outcomes.order.join(' ');
  }

  get holders(): number {
    return this.redis.gate.leases.size;
  }

  /** Lets all replies and messages arrive. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 3; turn++) await this.clock.advance(0);
  }

  async advance(seconds: number): Promise<void> {
    await this.clock.advance(seconds);
    await this.settle();
  }
}

/** A fleet in which one process holds the only slot as `held`. */
async function busyFleet(options: Partial<RedisThrottleOptions> = {}): Promise<{
  fleet: Fleet;
  ada: ReturnType<Fleet['start']>;
  bob: ReturnType<Fleet['start']>;
}> {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.start(options), fleet.start(options)];
  await fleet.acquire('held', ada.throttle);
  return { fleet, ada, bob };
}

describe('the order of grants', () => {
  test('calls of several processes are granted in the order in which they arrive in Redis', async () => {
    const { fleet, ada, bob } = await busyFleet();
    for (const [index, { throttle }] of [bob, ada, bob, ada, ada, bob].entries())
      await fleet.acquire(String(index), throttle);
    for (const name of ['held', '0', '1', '2', '3', '4']) await fleet.release(name);
    expect(fleet.order).toBe('held 0 1 2 3 4 5');
    expect(fleet.holders).toBe(1);
  });

  test('a burst of more requests than a batch holds is granted in the order of its calls', async () => {
    const fleet = new Fleet();
    const { throttle } = fleet.start();
    for (let index = 0; index < 2_500; index++)
      fleet.outcomes.follow(
        String(index),
        throttle.run(() => {}),
      );
    await fleet.advance(1);
    expect(fleet.outcomes.order).toEqual(Array.from({ length: 2_500 }, (_, index) => String(index)));
    await fleet.settle();
    expect(fleet.holders).toBe(0);
    expect(fleet.redis.gate.queue).toEqual([]);
  });
});

describe('handing on', () => {
  test('a released slot goes to the next waiter of the process without a call of Redis', async () => {
    const { fleet, ada } = await busyFleet();
    await fleet.acquire('a', ada.throttle);
    const { slot } = fleet.permit('held');
    ada.client.losesRequests = true;
    await fleet.release('held');
    expect(fleet.order).toBe('held a');
    expect(fleet.permit('a').slot).toBe(slot);
  });

  test('a waiter of another process ahead of the own waiters gets the released slot', async () => {
    const { fleet, ada, bob } = await busyFleet();
    await fleet.acquire('b', bob.throttle);
    await fleet.acquire('a', ada.throttle);
    await fleet.release('held');
    expect(fleet.order).toBe('held b');
  });

  test('a process without messages asks Redis again after a second', async () => {
    const { fleet, ada, bob } = await busyFleet();
    await fleet.acquire('a', ada.throttle);
    ada.client.losesMessages = true;
    await bob.throttle.pause(60);
    await fleet.advance(1.5);
    await fleet.release('held');
    expect(fleet.order).toBe('held');
    expect(fleet.holders).toBe(0);
  });

  test('a pause of another process withdraws the permission at once', async () => {
    const { fleet, ada, bob } = await busyFleet();
    await fleet.acquire('a', ada.throttle);
    await bob.throttle.pause(1);
    await fleet.settle();
    await fleet.release('held');
    expect(fleet.order).toBe('held');
    await fleet.advance(1);
    expect(fleet.order).toBe('held a');
  });

  test('an own pause takes effect at once, before Redis has received it', async () => {
    const { fleet, ada } = await busyFleet();
    await fleet.acquire('a', ada.throttle);
    const pausing = ada.throttle.pause(1);
    fleet.permit('held').release();
    await fleet.settle();
    await pausing;
    expect(fleet.order).toBe('held');
  });

  test('a waiter that Redis has granted meanwhile gives its second slot back', async () => {
    const fleet = new Fleet();
    const [ada, bob] = [fleet.start({ concurrency: 2 }), fleet.start({ concurrency: 2 })];
    await fleet.acquire('held', ada.throttle);
    await fleet.acquire('b', bob.throttle);
    await fleet.acquire('a', ada.throttle);
    ada.client.losesMessages = true;
    await fleet.release('b');
    await fleet.release('held');
    expect(fleet.order).toBe('held b a');
    expect(fleet.holders).toBe(1);
    await fleet.release('a');
    expect(fleet.holders).toBe(0);
  });
});

describe('lingering slots', () => {
  test('the next call of the process takes a lingering slot without a call of Redis', async () => {
    const { fleet, ada } = await busyFleet({ linger: 5 });
    const calls = ada.client.calls.length;
    for (const name of ['a', 'b', 'c']) {
      await fleet.release(fleet.outcomes.order.at(-1) as string);
      await fleet.acquire(name, ada.throttle);
    }
    expect(fleet.order).toBe('held a b c');
    expect(ada.client.calls).toHaveLength(calls);
  });

  test('a waiter of another process recalls a lingering slot', async () => {
    const { fleet, ada, bob } = await busyFleet({ linger: 5 });
    await fleet.release('held');
    expect(fleet.holders).toBe(1);
    await fleet.acquire('b', bob.throttle);
    await fleet.settle();
    expect(fleet.order).toBe('held b');
    expect(ada.throttle.held).toBe(0);
  });

  test('a lingering slot is returned at its deadline', async () => {
    const { fleet } = await busyFleet({ linger: 0.5 });
    await fleet.release('held');
    await fleet.advance(0.6);
    expect(fleet.holders).toBe(0);
  });

  test('a lost recall is repaired by the next renewal', async () => {
    const { fleet, ada, bob } = await busyFleet({ linger: 60 });
    await fleet.release('held');
    ada.client.losesMessages = true;
    await fleet.acquire('b', bob.throttle);
    expect(fleet.order).toBe('held');
    await fleet.advance(TTL / 3 + 0.1);
    expect(fleet.order).toBe('held b');
  });

  test('idle returns lingering slots', async () => {
    const { fleet, ada } = await busyFleet({ linger: 60 });
    await fleet.release('held');
    fleet.outcomes.follow('idle', ada.throttle.idle());
    await fleet.settle();
    expect(fleet.order).toBe('held idle');
    expect(fleet.holders).toBe(0);
  });
});

describe('limits of one process', () => {
  test('a process that lowers its limit hands nothing on until Redis allows it', async () => {
    const fleet = new Fleet();
    const { throttle } = fleet.start({ concurrency: 2 });
    for (const name of ['a', 'b', 'c']) await fleet.acquire(name, throttle);
    await throttle.configure({ concurrency: 1 });
    await fleet.release('a');
    expect(fleet.order).toBe('a b');
    await fleet.release('b');
    expect(fleet.order).toBe('a b c');
  });
});

describe('losses', () => {
  test('an unknown owner states its leases and waiters again', async () => {
    const { fleet, ada, bob } = await busyFleet();
    await fleet.acquire('a', ada.throttle);
    await fleet.acquire('b', bob.throttle);
    fleet.redis.loseState();
    await fleet.advance(TTL / 3 + 0.1);
    expect(Array.from(fleet.redis.gate.slots)).toEqual([fleet.permit('held').slot]);
    expect(fleet.permit('held').signal.aborted).toBe(false);
    await fleet.release('held');
    await fleet.release('a');
    expect(fleet.order).toBe('held a b');
  });

  test('2,500 leases survive the loss of the state', async () => {
    const fleet = new Fleet();
    const { throttle } = fleet.start({ concurrency: 0 });
    const permits = await Promise.all([
      ...Array.from({ length: 2_500 }, () => throttle.acquire()),
      fleet.settle() as Promise<never>,
    ]);
    fleet.redis.loseState();
    await fleet.advance(TTL / 3 + 0.1);
    expect(fleet.holders).toBe(2_500);
    expect(permits.slice(0, 2_500).filter(({ signal }) => signal.aborted)).toEqual([]);
  });

  test('a reset loses the leases and keeps the order of the waiters', async () => {
    const { fleet, ada, bob } = await busyFleet();
    const { signal } = fleet.permit('held');
    await fleet.acquire('b', bob.throttle);
    await fleet.acquire('a', ada.throttle);
    fleet.redis.reset();
    await fleet.settle();
    expect((signal.reason as LeaseLostError).code).toBe('ERR_THROTTLE_LEASE_LOST');
    // The messages of the reset may arrive in any order, so only one of both is granted.
    expect(fleet.outcomes.order).toHaveLength(2);
    expect(fleet.holders).toBe(1);
  });

  test('a grant whose message was lost is repeated by the next renewal', async () => {
    const { fleet, ada, bob } = await busyFleet();
    await fleet.acquire('b', bob.throttle);
    bob.client.losesMessages = true;
    await fleet.release('held');
    expect(fleet.order).toBe('held');
    await fleet.advance(TTL / 3 + 0.1);
    expect(fleet.order).toBe('held b');
    expect(ada.throttle.held).toBe(0);
  });

  test('a batch whose reply was lost takes effect once', async () => {
    const fleet = new Fleet();
    const { client, throttle } = fleet.start({ concurrency: 2 });
    await fleet.acquire('a', throttle);
    client.losesReplies = true;
    await fleet.release('a');
    expect(fleet.holders).toBe(0);
    fleet.outcomes.follow('b', throttle.acquire());
    client.losesReplies = false;
    await fleet.advance(0.2);
    expect(fleet.order).toBe('a b');
    expect(fleet.holders).toBe(1);
  });

  test('the slots and places of a dead process are free after its ttl', async () => {
    const { fleet, ada, bob } = await busyFleet();
    await fleet.acquire('a', ada.throttle);
    await fleet.acquire('b', bob.throttle);
    ada.client.crash();
    await fleet.advance(TTL - 0.1);
    expect(fleet.order).toBe('held');
    await fleet.advance(0.2);
    expect(fleet.order).toMatch(/^held.* b$/);
  });

  test('a disconnected process loses its permits before another process gets their slots', async () => {
    const { fleet, ada, bob } = await busyFleet();
    const { signal } = fleet.permit('held');
    await fleet.acquire('b', bob.throttle);
    ada.client.losesRequests = true;
    await fleet.advance(0.89 * TTL);
    expect(signal.aborted).toBe(false);
    await fleet.advance(0.02 * TTL);
    expect(signal.aborted).toBe(true);
    expect(fleet.order).toBe('held');
    await fleet.advance(0.1 * TTL);
    expect(fleet.order).toBe('held b');
  });
});

test('an aborted waiter leaves the queue of Redis', async () => {
  const { fleet, bob } = await busyFleet();
  const controller = new AbortController();
  await fleet.acquire('b', bob.throttle, { signal: controller.signal });
  expect(fleet.redis.gate.queue).toHaveLength(1);
  controller.abort(new Error('cancel'));
  await fleet.settle();
  expect(fleet.order).toBe('held b!');
  expect(fleet.redis.gate.queue).toEqual([]);
});

test('a closed throttle leaves nothing in Redis and no timer', async () => {
  const { fleet, ada, bob } = await busyFleet({ linger: 60 });
  await fleet.acquire('b', bob.throttle);
  for (const { throttle } of [ada, bob]) fleet.outcomes.follow('closed', throttle.close());
  await fleet.settle();
  await fleet.release('held');
  expect(fleet.order).toBe('held b! closed closed');
  const { leases, owners, queue } = fleet.redis.gate;
  expect([leases.size, queue.length, owners.size]).toEqual([0, 0, 0]);
  expect(fleet.clock.pending).toBe(0);
});
