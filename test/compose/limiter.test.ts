/** A limiter: several gates, acquired in one order, within one timeout. */
import fc from 'fast-check';
import {
  type Gate,
  KeyedThrottle,
  Limiter,
  QueueFullError,
  Resource,
  ServerBusyError,
  Throttle,
  ThrottleError,
  ThrottleTimeoutError,
} from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { Outcomes } from '../support/support.js';

const setUp = (timeout = 5): { clock: ManualClock; database: Resource; files: Resource; limiter: Limiter } => {
  const clock = new ManualClock();
  const database = new Resource(2, { clock, name: 'database' });
  const files = new Resource(1, { clock, name: 'files' });
  return { clock, database, files, limiter: new Limiter({ timeout, resources: [database, files], clock }) };
};
const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'fulfilled',
    (error: unknown) => error,
  );

describe('definition of a handler', () => {
  const { database, files, limiter } = setUp();
  const unregistered = new Throttle(1, 0, 1, { name: 'unregistered' });
  test.each<[string, readonly Gate[], string]>([
    [
      'out of order',
      [files, database],
      'resources[1] ("database") is out of order: registered at index 0, but listed after index 1',
    ],
    ['listed twice', [database, database], 'resources[1] ("database") is listed twice: acquire would wait for itself'],
    [
      'listed twice, not in succession',
      [database, files, database],
      'resources[2] ("database") is out of order: registered at index 0, but listed after index 1',
    ],
    [
      'not registered',
      [database, unregistered],
      'resources[1] ("unregistered") is not registered: list it in the limiter\'s resources option',
    ],
    [
      'not registered, without a name',
      [new Resource(1)],
      "resources[0] is not registered: list it in the limiter's resources option",
    ],
    ['undefined', [undefined as never], "resources[0] is not registered: list it in the limiter's resources option"],
    ['an empty list', [], 'resources must list at least one gate'],
  ])('resources throws for gates that are %s, and acquire rejects', async (_, resources, message) => {
    expect(() => limiter.resources(resources)).toThrow(new RangeError(message));
    expect(await rejection(limiter.acquire(resources))).toEqual(new RangeError(message));
    expect([database.active, files.active]).toEqual([0, 0]);
  });

  test.each<[string, () => unknown, Error]>([
    [
      'a timeout',
      () => new Limiter({ resources: [] } as never),
      new TypeError('timeout must be a number >= 0, received undefined'),
    ],
    [
      'a timeout >= 0',
      () => new Limiter({ timeout: -1, resources: [] }),
      new RangeError('timeout must be a number >= 0, received -1'),
    ],
    [
      'resources',
      () => new Limiter({ timeout: 1 } as never),
      new TypeError('resources must be an array of gates, received undefined'),
    ],
    [
      'gates',
      () => new Limiter({ timeout: 1, resources: [database, {} as never] }),
      new TypeError('resources[1] must be a Gate, received object'),
    ],
    [
      'gates without keys',
      () => new Limiter({ timeout: 1, resources: [new KeyedThrottle(1) as never] }),
      new TypeError('resources[0] must be a Gate, received object'),
    ],
    [
      'gates, not undefined',
      () => new Limiter({ timeout: 1, resources: [undefined as never] }),
      new TypeError('resources[0] must be a Gate, received undefined'),
    ],
    [
      'each gate once',
      () => new Limiter({ timeout: 1, resources: [database, database] }),
      new RangeError('resources must list each gate once'),
    ],
    ['options', () => new Limiter(5 as never), new TypeError('options must be an object, received 5')],
    [
      'a list to choose from',
      () => limiter.resources(database as never),
      new TypeError('resources must be an array of gates, received object'),
    ],
    [
      'a handler',
      () => limiter.resources([database])(undefined as never),
      new TypeError('handler must be a function, received undefined'),
    ],
    [
      'a method',
      () => limiter.resources([database])(() => 1, { kind: 'getter' } as never),
      new TypeError('context must be the context of a method, received "getter"'),
    ],
    [
      'a context that is not null',
      () => limiter.resources([database])(() => 1, null as never),
      new TypeError('context must be the context of a method, received null'),
    ],
    // The experimental decorators of TypeScript pass the prototype, the name and the descriptor.
    [
      'a standard decorator',
      () => limiter.resources([database])({} as never, 'name' as never),
      new TypeError('handler must be a function, received object'),
    ],
  ])('a limiter requires %s', (_, make, error) => {
    expect(make).toThrow(error);
  });

  test('a later change of the resources array has no effect', async () => {
    const chosen = [database];
    const limited = limiter.resources(chosen)(() => [database.active, files.active]);
    chosen.push(files);
    expect(await limited()).toEqual([1, 0]);
    const acquired = limiter.acquire(chosen);
    chosen.pop();
    using permit = await acquired;
    expect([permit.released, database.active, files.active]).toEqual([false, 1, 1]);
  });

  test('an error message shows no name for a Resources object', () => {
    expect(() => new Limiter({ timeout: 1, resources: [database] }).resources([limiter.resources([database])])).toThrow(
      new RangeError("resources[0] is not registered: list it in the limiter's resources option"),
    );
  });
});

describe('a limited handler', () => {
  test('a handler holds its resources while it runs, and releases them in reverse, also after an error', async () => {
    const { database, files, limiter } = setUp();
    const order: string[] = [];
    const recordOrder = (gate: Gate, name: string): Gate =>
      Object.assign(new Throttle(1), {
        acquire: async (...args: Parameters<Gate['acquire']>) => {
          const permit = await gate.acquire(...args);
          order.push(`+${name}`);
          const release = permit.release.bind(permit);
          return Object.assign(permit, { release: () => (order.push(`-${name}`), release()) });
        },
      });
    const [first, second] = [recordOrder(database, 'database'), recordOrder(files, 'files')];
    const both = new Limiter({ timeout: 1, resources: [first, second] }).resources([first, second]);
    const works = both(async (value: number) => {
      order.push('works');
      expect([database.active, files.active]).toEqual([1, 1]);
      return value + 1;
    });
    const fails = both(() => {
      throw new Error('handler failed');
    });
    expect(await works(1)).toBe(2);
    expect(order).toEqual(['+database', '+files', 'works', '-files', '-database']);
    await expect(fails()).rejects.toThrow('handler failed');
    expect([database.active, files.active]).toEqual([0, 0]);
    expect(await limiter.resources([files])(() => 'one of them')()).toBe('one of them');
  });

  test('the wrapper keeps this, the arguments, the name and the length, also as a method decorator', async () => {
    const { database, limiter } = setUp();
    class Reports {
      title = 'March';

      @limiter.resources([database])
      async write(prefix: string, suffix: string): Promise<string> {
        return `${prefix}${this.title}${suffix}, ${database.active} running`;
      }
    }
    const reports = new Reports();
    expect(await reports.write('<', '>')).toBe('<March>, 1 running');
    expect([reports.write.name, reports.write.length]).toEqual(['write', 2]);
    const handler = function handler(_a: number, _b: number, _c: number): void {};
    const { name, length } = Object.getOwnPropertyDescriptors(limiter.resources([database])(handler));
    expect({ name, length }).toEqual({
      name: Object.getOwnPropertyDescriptor(handler, 'name'),
      length: Object.getOwnPropertyDescriptor(handler, 'length'),
    });
  });

  test('one deadline covers all resources, and at a timeout the resources already held are refunded', async () => {
    const clock = new ManualClock();
    const quota = new Throttle(10, 0, 60, { clock, burst: 10 });
    const database = new Resource(1, { clock });
    const limiter = new Limiter({ timeout: 5, resources: [quota, database], clock });
    const held = await database.acquire();
    quota.pause(3);
    const outcome = rejection(limiter.acquire([quota, database]));
    await clock.advance(3);
    expect([quota.active, database.waiting]).toEqual([1, 1]);
    await clock.advance(1.999);
    expect(quota.active).toBe(1);
    await clock.advance(0.001);
    expect(await outcome).toBeInstanceOf(ServerBusyError);
    expect([quota.active, quota.tokens, database.waiting]).toEqual([0, 10, 0]);
    held.release();
    expect(clock.pending).toBe(0);
  });

  test('a timeout rejects with a ServerBusyError, whose message reveals no internals', async () => {
    const { database, files, limiter } = setUp(0);
    await files.acquire();
    const error = await rejection(limiter.resources([database, files])(() => 'never')());
    expect(error).toBeInstanceOf(ServerBusyError);
    expect(error).toBeInstanceOf(ThrottleTimeoutError);
    expect(error).toBeInstanceOf(ThrottleError);
    expect(error).toMatchObject({
      name: 'ServerBusyError',
      message: 'Server busy, please retry later',
      status: 503,
      code: 'ERR_THROTTLE_TIMEOUT',
    });
    expect((error as Error).cause).toMatchObject({
      name: 'ThrottleTimeoutError',
      message: expect.stringContaining('"files"') as string,
    });
    expect(error).not.toHaveProperty('retryAfter');
    expect([database.active, database.waiting]).toEqual([0, 0]);
  });

  test('a ServerBusyError has the retryAfter of the gate that refused', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(1, 0, 60, { clock });
    const limiter = new Limiter({ timeout: 1, resources: [throttle], clock });
    await limiter.acquire([throttle]);
    expect(await rejection(limiter.acquire([throttle]))).toMatchObject({ name: 'ServerBusyError', retryAfter: 60 });
  });

  test('a timeout of 0 acquires free resources, and refuses at once otherwise', async () => {
    const { database, files, limiter } = setUp(0);
    const permit = await limiter.acquire([database, files]);
    expect(await rejection(limiter.acquire([files]))).toBeInstanceOf(ServerBusyError);
    expect(files.waiting).toBe(0);
    permit.release();
    expect(await limiter.resources([files])(() => 'free')()).toBe('free');
  });

  test('timeout errors of the handler and other refusals of the gates pass through unchanged', async () => {
    const { database, files, limiter } = setUp();
    const own = new ThrottleTimeoutError('thrown by the handler');
    expect(await rejection(limiter.resources([database])(() => Promise.reject(own))())).toBe(own);
    files.close('maintenance');
    const closed = await rejection(limiter.resources([database, files])(() => 1)());
    expect(closed).toMatchObject({ name: 'ThrottleClosedError', cause: 'maintenance' });
    const full = new Resource(1, { maxQueue: 0 });
    await full.acquire();
    const error = await rejection(new Limiter({ timeout: 1, resources: [full] }).acquire([full]));
    expect(error).toBeInstanceOf(QueueFullError);
    const broken: Gate = Object.assign(new Throttle(1), { acquire: () => Promise.reject(new Error('no connection')) });
    const withBrokenGate = new Limiter({ timeout: 1, resources: [database, broken] });
    expect(await rejection(withBrokenGate.acquire([database, broken]))).toEqual(new Error('no connection'));
    expect(database.active).toBe(0);
  });

  test('an abort rejects with the reason of the signal, even if the reason is a timeout error', async () => {
    const { files, limiter } = setUp();
    await files.acquire();
    const controller = new AbortController();
    const waiting = rejection(limiter.acquire([files], { signal: controller.signal }));
    const reason = new ThrottleTimeoutError('the deadline of the caller');
    controller.abort(reason);
    expect(await waiting).toBe(reason);
  });

  test('an abort between the grant and the start of the function wins, and the resources are refunded', async () => {
    const clock = new ManualClock();
    const quota = new Throttle(10, 1, 60, { clock });
    const both = new Limiter({ timeout: 5, resources: [quota], clock }).resources([quota]);
    const held = await quota.acquire(0);
    const controller = new AbortController();
    const reason = new Error('too late');
    const fn = vi.fn();
    const outcome = rejection(both.run(fn, 4, { signal: controller.signal }));
    await clock.advance(0);
    held.release();
    controller.abort(reason);
    expect(await outcome).toBe(reason);
    expect([fn.mock.calls.length, quota.active, quota.tokens]).toEqual([0, 0, 10]);
  });

  test.each([
    { options: {}, passedOn: {}, frames: true },
    { options: { stack: undefined }, passedOn: {}, frames: true },
    { options: { stack: false } as const, passedOn: { stack: false }, frames: false },
  ])('with $options, each gate receives $passedOn, and the error has a stack trace: $frames', async (each) => {
    const { files, limiter } = setUp(0);
    await files.acquire();
    const acquire = vi.spyOn(files, 'acquire');
    const error = (await rejection(limiter.acquire([files], each.options))) as Error;
    expect(error).toBeInstanceOf(ServerBusyError);
    expect(acquire.mock.calls).toStrictEqual([[1, { signal: undefined, timeout: 0, ...each.passedOn }]]);
    expect(/^ +at /m.test(error.stack ?? '')).toBe(each.frames);
  });

  test('FIFO: handlers with the same resources start in the order of their calls', async () => {
    const { clock, database, files, limiter } = setUp(Infinity);
    const order: number[] = [];
    const work = limiter.resources([database, files])(async (index: number) => {
      order.push(index);
      await new Promise<void>((resolve) => clock.schedule(1, resolve));
    });
    const all = [1, 2, 3, 4, 5].map((index) => work(index));
    await clock.runAll();
    await Promise.all(all);
    expect(order).toEqual([1, 2, 3, 4, 5]);
  });
});

describe('a Resources object as a gate', () => {
  test('tryAcquire acquires all resources or none', async () => {
    const { database, files, limiter } = setUp();
    const both = limiter.resources([database, files]);
    const permit = await both.tryAcquire();
    expect([database.active, files.active]).toEqual([1, 1]);
    expect(await both.tryAcquire()).toBeUndefined();
    expect([database.active, files.active]).toEqual([1, 1]);
    permit?.release();
    const quota = new Throttle(5);
    const weighted = new Limiter({ timeout: 0, resources: [database, quota] }).resources([database, quota]);
    await expect(weighted.tryAcquire(6)).rejects.toThrow('cost must be at most 5');
    expect(database.active).toBe(0);
    expect((await weighted.tryAcquire(5))?.cost).toBe(5);
  });

  test("pause, resume and close apply to each resource, and timeout is the limiter's", async () => {
    const { clock, database, files, limiter } = setUp(7);
    const both = limiter.resources([database, files]);
    expect(both.timeout).toBe(7);
    await both.pause(3);
    expect([database.tryAcquire(), files.tryAcquire()]).toEqual([undefined, undefined]);
    await both.resume();
    expect(await both.run((permit) => permit.cost)).toBe(1);
    await both.pause(2);
    const outcomes = new Outcomes();
    outcomes.follow(
      'run',
      both.run(() => clock.now()),
    );
    await clock.advance(2);
    expect(outcomes.order).toEqual(['run']);
    await expect(both.run(undefined as never)).rejects.toThrow('fn must be a function, received undefined');
    await both.close('shutdown');
    expect([database.closed, files.closed]).toEqual([true, true]);
    await expect(both.acquire()).rejects.toMatchObject({ cause: 'shutdown' });
  });

  test('an abort at any stage leaves no resource held', async () => {
    const { database, files, limiter } = setUp();
    const both = limiter.resources([database, files]);
    const reason = new Error('aborted');
    await expect(both.acquire(1, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const held = await files.acquire();
    const controller = new AbortController();
    const waiting = rejection(both.acquire(1, { signal: controller.signal }));
    await new Promise((resolve) => void setTimeout(resolve, 1));
    expect([database.active, files.waiting]).toEqual([1, 1]);
    controller.abort(reason);
    expect(await waiting).toBe(reason);
    expect([database.active, files.waiting]).toEqual([0, 0]);
    held.release();
    await expect(both.acquire(1, null as never)).rejects.toThrow('options must be an object, received null');
    await expect(both.acquire(1, { timeout: -1 })).rejects.toThrow('timeout must be a number >= 0, received -1');
  });
});

test('trap 14: handlers that need several resources never deadlock', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.uniqueArray(fc.nat(3), { minLength: 1 }), fc.nat(5), fc.boolean()), {
        minLength: 1,
        maxLength: 30,
      }),
      async (jobs) => {
        const clock = new ManualClock();
        const gates = [1, 2, 1, 3].map((capacity) => new Resource(capacity, { clock }));
        const limiter = new Limiter({ timeout: Infinity, resources: gates, clock });
        let done = 0;
        const all = jobs.map(([needs, seconds, fails]) =>
          limiter.resources(needs.toSorted((a, b) => a - b).map((index) => gates[index] as Gate))(async () => {
            for (const gate of gates) expect(gate.active).toBeLessThanOrEqual(gate.capacity);
            if (seconds > 0) await new Promise<void>((resolve) => clock.schedule(seconds, resolve));
            done++;
            if (fails) throw new Error('after work');
          })(),
        );
        const settled = Promise.allSettled(all);
        await clock.runAll();
        await settled;
        expect(done).toBe(jobs.length);
        expect(gates.map((gate) => [gate.active, gate.waiting])).toEqual(gates.map(() => [0, 0]));
      },
    ),
    { numRuns: 100 },
  );
});
