/** One throttle per key: limits, arguments, `maxKeys` and `close`. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { KeyedThrottle, QueueFullError, ThrottleClosedError } from 'headgate';
import { describe, expect, onTestFinished, test } from 'vitest';
import { setUpKeyed } from '../support/support.js';

describe('keys', () => {
  test('each key has its own limits', async () => {
    const { keyed } = setUpKeyed(2, 1);
    const a = await keyed.acquire('a');
    expect(keyed.tryAcquire('a')).toBeUndefined();
    expect(keyed.tryAcquire('b')).toBeDefined();
    a.release();
    expect(keyed.tryAcquire('a')).toBeDefined();
    expect(keyed.tryAcquire('a')).toBeUndefined();
  });

  test('each key has its own queue', async () => {
    const { clock, keyed } = setUpKeyed(1);
    const order: string[] = [];
    const all = ['a', 'a', 'b', 'a', 'b'].map((key, index) =>
      keyed.run(key, () => order.push(`${key}${index}@${clock.now()}`)),
    );
    await clock.advance(5);
    await Promise.all(all);
    expect(order).toEqual(['a0@0', 'b2@0', 'a1@1', 'b4@1', 'a3@2']);
  });

  test('pause and resume affect one key only', async () => {
    const { clock, keyed } = setUpKeyed();
    keyed.pause('a', 5);
    expect(keyed.tryAcquire('a')).toBeUndefined();
    expect(keyed.tryAcquire('b')).toBeDefined();
    keyed.resume('a');
    expect(keyed.tryAcquire('a')).toBeDefined();
    keyed.resume('unused');
    expect(keyed.peek('unused')).toBeUndefined();
    keyed.pause('c');
    await clock.advance(1e9);
    expect(keyed.peek('c')?.pausedFor).toBe(Infinity);
  });

  test('any value except undefined and null is a key', async () => {
    const key = {};
    const keyed = new KeyedThrottle<unknown>(1, 1);
    expect(keyed.tryAcquire(key)).toBeDefined();
    expect(keyed.tryAcquire(key)).toBeUndefined();
    expect(keyed.tryAcquire({})).toBeDefined();
    expect(keyed.tryAcquire('')).toBeDefined();
    for (const missing of [undefined, null]) {
      const message = `key must be neither undefined nor null, received ${missing}`;
      await expect(keyed.acquire(missing)).rejects.toThrow(new TypeError(message));
      await expect(keyed.run(missing, () => 1)).rejects.toThrow(new TypeError(message));
      expect(() => keyed.tryAcquire(missing)).toThrow(new TypeError(message));
      expect(() => keyed.pause(missing)).toThrow(new TypeError(message));
    }
    expect(keyed.size).toBe(3);
  });

  test('the options reach the throttle of a key, and run passes on what fn returns or throws', async () => {
    const { clock, keyed } = setUpKeyed(1, 0, 60, { name: 'api', maxQueue: 1 });
    expect(await keyed.run('a', (permit) => permit.cost)).toBe(1);
    const waiting = keyed.run('a', () => Promise.reject(new Error('failed in fn')));
    await expect(keyed.acquire('a')).rejects.toThrow(QueueFullError);
    await expect(keyed.acquire('a', 1, { timeout: 1 })).rejects.toThrow('Throttle "api" (1 per 60 s');
    const outcome = expect(waiting).rejects.toThrow('failed in fn');
    await clock.advance(60);
    await outcome;
    expect(keyed.name).toBe('api');
    expect(keyed.keyed).toBe(true);
  });
});

describe('arguments', () => {
  test.each<[string, () => unknown, string]>([
    ['capacity', () => new KeyedThrottle(0), 'capacity must be a number > 0, received 0'],
    ['concurrency', () => new KeyedThrottle(1, 1.5), 'concurrency must be an integer >= 0, received 1.5'],
    ['maxKeys', () => new KeyedThrottle(1, 0, 1, { maxKeys: 0 }), 'maxKeys must be an integer >= 1, received 0'],
    ['maxKeys', () => new KeyedThrottle(1, 0, 1, { maxKeys: 1.5 }), 'maxKeys must be an integer >= 1, received 1.5'],
    ['maxKeys', () => new KeyedThrottle(1, 0, 1, { maxKeys: NaN }), 'maxKeys must be an integer >= 1, received NaN'],
  ])('the constructor rejects an invalid %s', (_, make, message) => {
    expect(make).toThrow(new RangeError(message));
  });

  test('the constructor copies the options, and `undefined` means the default', () => {
    const options = { burst: 2, maxKeys: undefined, clock: undefined };
    const keyed = new KeyedThrottle(1, 0, 1, options);
    options.burst = 100;
    expect(keyed.maxKeys).toBe(100_000);
    expect(() => keyed.tryAcquire('a', 3)).toThrow(RangeError);
  });

  test('the limits and the name of each key can be read', () => {
    const { keyed } = setUpKeyed(10, 2, 60, { burst: 20, maxKeys: 3, name: 'api' });
    expect(keyed).toMatchObject({ capacity: 10, concurrency: 2, period: 60, burst: 20, maxKeys: 3, name: 'api' });
  });

  test('a call with an invalid argument leaves no live key', async () => {
    const { keyed } = setUpKeyed();
    await expect(keyed.acquire('a', -1)).rejects.toThrow(RangeError);
    await expect(keyed.run('b', undefined as never)).rejects.toThrow(TypeError);
    expect(() => keyed.tryAcquire('c', NaN)).toThrow(RangeError);
    expect(() => keyed.pause('d', -1)).toThrow(RangeError);
    await expect(keyed.acquire('e', 1, { signal: AbortSignal.abort(new Error('gone')) })).rejects.toThrow('gone');
    expect(keyed.size).toBe(0);
  });
});

describe('maxKeys', () => {
  test('a new key is refused while maxKeys keys are live, and admitted after an eviction', async () => {
    const { clock, keyed } = setUpKeyed(1, 1, 10, { maxKeys: 2, name: 'users' });
    const held = await keyed.acquire('a');
    await keyed.run('b', () => 1);
    const refused: unknown = await keyed.acquire('c').catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(QueueFullError);
    expect(refused).toMatchObject({
      message: 'KeyedThrottle "users" has 2 keys in use, the maximum (maxKeys); retry later or raise maxKeys',
    });
    // A job of one key runs, and its end is unknown.
    expect(refused).not.toHaveProperty('retryAfter');
    await expect(keyed.run('c', () => 1)).rejects.toThrow(QueueFullError);
    expect(keyed.tryAcquire('c')).toBeUndefined();
    expect(() => keyed.pause('c')).toThrow(QueueFullError);
    // Live keys are still served.
    const again = keyed.run('b', () => 'served');
    await clock.advance(10);
    expect(await again).toBe('served');
    held.release();
    expect(await keyed.run('c', () => 'admitted')).toBe('admitted');
    expect(keyed.size).toBe(2);
  });

  test.each([
    { options: {}, events: [{ cost: 3 }, { cost: 1 }] },
    { options: { silent: true }, events: [] },
  ])('with $options, the refusals of new keys publish $events', async ({ options, events }) => {
    const { keyed } = setUpKeyed(10, 1, 1, { maxKeys: 1, ...options });
    keyed.tryAcquire('a');
    const published: unknown[] = [];
    const subscriber = (message: unknown): void => void published.push(message);
    subscribe('headgate:refused', subscriber);
    onTestFinished(() => void unsubscribe('headgate:refused', subscriber));
    await expect(keyed.acquire('b', 3)).rejects.toThrow(QueueFullError);
    expect(keyed.tryAcquire('c')).toBeUndefined();
    // A pause requests no permit, so its failure is no refusal of a job.
    expect(() => keyed.pause('d')).toThrow(QueueFullError);
    expect(published).toMatchObject(events);
  });

  test('one evictable key among a thousand makes room for a new key', async () => {
    const { keyed } = setUpKeyed(Infinity, 1, 1, { maxKeys: 1_000 });
    const permits = Array.from({ length: 1_000 }, (_, index) => keyed.tryAcquire(`${index}`));
    await expect(keyed.acquire('extra')).rejects.toThrow(
      'KeyedThrottle has 1000 keys in use, the maximum (maxKeys); retry later or raise maxKeys',
    );
    permits[777]?.release();
    expect(keyed.tryAcquire('extra')).toBeDefined();
    expect(keyed.tryAcquire('another')).toBeUndefined();
  });
});

describe('close', () => {
  test('close rejects the waiters and later calls of every key, and running work finishes', async () => {
    const { keyed } = setUpKeyed(10, 1);
    const running = await keyed.acquire('a');
    const waiting = keyed.acquire('a');
    await keyed.run('b', () => 1);
    const reason = new Error('shutting down');
    keyed.close(reason);
    keyed.close(new Error('too late'));
    await expect(waiting).rejects.toMatchObject({ name: 'ThrottleClosedError', cause: reason });
    for (const name of ['a', 'b', 'new'])
      await expect(keyed.acquire(name)).rejects.toMatchObject({ name: 'ThrottleClosedError', cause: reason });
    expect(keyed.tryAcquire('new')).toBeUndefined();
    expect([keyed.closed, keyed.size]).toEqual([true, 1]);
    let idle = false;
    const ended = keyed.idle().then(() => (idle = true));
    await Promise.resolve();
    expect(idle).toBe(false);
    running.release();
    await ended;
    expect(keyed.size).toBe(0);
    running.settle(5);
    expect(keyed.size).toBe(0);
  });

  test('await using closes the gate and waits for running work', async () => {
    let finished = false;
    {
      await using keyed = new KeyedThrottle(10, 1);
      void keyed.run('a', async () => {
        await new Promise((resolve) => void setTimeout(resolve, 20));
        finished = true;
      });
      await Promise.resolve();
    }
    expect(finished).toBe(true);
    const closed = new KeyedThrottle(1);
    closed.close();
    await expect(closed.run('a', () => 1)).rejects.toThrow(ThrottleClosedError);
  });
});
