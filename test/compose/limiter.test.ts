/** Several gates in one order: what a limiter promises beyond what its gates do. */
import fc from 'fast-check';
import {
  type Gate,
  KeyedThrottle,
  Limiter,
  type Permit,
  QueueFullError,
  Resource,
  ServerBusyError,
  Throttle,
  ThrottleError,
  ThrottleTimeoutError,
} from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
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

describe('a resource', () => {
  test.each<[unknown, typeof RangeError | typeof TypeError]>([
    [0, RangeError],
    [-1, RangeError],
    [1.5, RangeError],
    [NaN, RangeError],
    [Infinity, RangeError],
    ['1', TypeError],
    [undefined, TypeError],
  ])('has a capacity that is an integer >= 1, not %s', (capacity, Kind) => {
    expect(() => new Resource(capacity as number)).toThrow(Kind);
    expect(() => new Resource(capacity as number)).toThrow(/^capacity must be an integer >= 1, received /);
  });

  test('refuses options that are none', () => {
    expect(() => new Resource(1, null as never)).toThrow(new TypeError('options must be an object, received null'));
    expect(() => new Resource(1, { maxQueue: -1 })).toThrow('maxQueue must be an integer >= 0, received -1');
  });

  test('is a gate: at most so many at a time, in order, whatever they cost', async () => {
    const clock = new ManualClock();
    const resource = new Resource(2, { clock, name: 'r', maxQueue: 1 });
    const [a, b] = [await resource.acquire(1000), await resource.acquire()];
    expect(resource).toMatchObject({ capacity: 2, concurrency: 2, active: 2, waiting: 0, name: 'r', closed: false });
    expect(resource.tryAcquire()).toBeUndefined();
    const third = resource.run(() => resource.active);
    await expect(resource.acquire()).rejects.toThrow(QueueFullError);
    a.release();
    expect(await third).toBe(2);
    resource.pause();
    b.release();
    expect(resource.tryAcquire()).toBeUndefined();
    resource.resume();
    resource.tryAcquire()?.release();
    resource.close('done');
    await resource.idle();
    await expect(resource.acquire()).rejects.toMatchObject({ name: 'ThrottleClosedError', cause: 'done' });
    expect(resource.closed).toBe(true);
  });

  test('is idle once nothing of it is in use, and await using waits for that', async () => {
    const outcomes = new Outcomes();
    const resource = new Resource(2);
    const [first, second] = [await resource.acquire(), await resource.acquire()];
    outcomes.follow('idle', resource.idle());
    outcomes.follow('disposed', resource[Symbol.asyncDispose]());
    expect(resource.closed).toBe(true);
    first.release();
    await new Promise((resolve) => void setTimeout(resolve, 1));
    expect(outcomes.order).toEqual([]);
    second.release();
    await new Promise((resolve) => void setTimeout(resolve, 1));
    expect(outcomes.order).toEqual(['idle', 'disposed']);
  });
});

describe('definition', () => {
  const { database, files, limiter } = setUp();
  const stranger = new Throttle(1, 0, 1, { name: 'stranger' });
  test.each<[string, readonly Gate[], string]>([
    [
      'out of order',
      [files, database],
      'resources[1] ("database") is out of order: the limiter has it at 0, before the one at 1',
    ],
    ['listed twice', [database, database], 'resources[1] ("database") is listed twice: it would wait for itself'],
    [
      'listed twice, apart',
      [database, files, database],
      'resources[2] ("database") is out of order: the limiter has it at 0, before the one at 1',
    ],
    [
      'not registered',
      [database, stranger],
      'resources[1] ("stranger") is not registered: add it to the limiter\'s own resources',
    ],
    [
      'not registered, without a name',
      [new Resource(1)],
      "resources[0] is not registered: add it to the limiter's own resources",
    ],
    ['nothing at all', [undefined as never], "resources[0] is not registered: add it to the limiter's own resources"],
    ['none', [], 'resources must name at least one'],
  ])('refuses resources that are %s, before any handler runs; acquire rejects them', async (_, resources, message) => {
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
      'gates for all, not for each key',
      () => new Limiter({ timeout: 1, resources: [new KeyedThrottle(1) as never] }),
      new TypeError('resources[0] must be a Gate, received object'),
    ],
    [
      'gates that are there',
      () => new Limiter({ timeout: 1, resources: [undefined as never] }),
      new TypeError('resources[0] must be a Gate, received undefined'),
    ],
    [
      'each once',
      () => new Limiter({ timeout: 1, resources: [database, database] }),
      new RangeError('resources must name each gate once'),
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
      new TypeError('context must be that of a method, received "getter"'),
    ],
    [
      'a context, if any',
      () => limiter.resources([database])(() => 1, null as never),
      new TypeError('context must be that of a method, received null'),
    ],
    // TypeScript's own decorators of old pass the prototype, the name and the descriptor.
    [
      'a standard decorator',
      () => limiter.resources([database])({} as never, 'name' as never),
      new TypeError('handler must be a function, received object'),
    ],
  ])('needs %s', (_, make, error) => {
    expect(make).toThrow(error);
  });

  test('a list that is changed afterwards changes nothing', async () => {
    const chosen = [database];
    const limited = limiter.resources(chosen)(() => [database.active, files.active]);
    chosen.push(files);
    expect(await limited()).toEqual([1, 0]);
    const acquired = limiter.acquire(chosen);
    chosen.pop();
    using permit = await acquired;
    expect([permit.released, database.active, files.active]).toEqual([false, 1, 1]);
  });

  test('resources taken together have no name, unless they are given one', () => {
    expect(() => new Limiter({ timeout: 1, resources: [database] }).resources([limiter.resources([database])])).toThrow(
      new RangeError("resources[0] is not registered: add it to the limiter's own resources"),
    );
  });
});

describe('a limited handler', () => {
  test('holds its resources while it runs, and gives them back in reverse however it ends', async () => {
    const { database, files, limiter } = setUp();
    const order: string[] = [];
    const watched = (gate: Gate, name: string): Gate =>
      Object.assign(new Throttle(1), {
        acquire: async (...args: Parameters<Gate['acquire']>) => {
          const permit = await gate.acquire(...args);
          order.push(`+${name}`);
          const release = permit.release.bind(permit);
          return Object.assign(permit, { release: () => (order.push(`-${name}`), release()) });
        },
      });
    const [first, second] = [watched(database, 'database'), watched(files, 'files')];
    const both = new Limiter({ timeout: 1, resources: [first, second] }).resources([first, second]);
    const works = both(async (value: number) => {
      order.push('works');
      expect([database.active, files.active]).toEqual([1, 1]);
      return value + 1;
    });
    const fails = both(() => {
      throw new Error('its own');
    });
    expect(await works(1)).toBe(2);
    expect(order).toEqual(['+database', '+files', 'works', '-files', '-database']);
    await expect(fails()).rejects.toThrow('its own');
    expect([database.active, files.active]).toEqual([0, 0]);
    expect(await limiter.resources([files])(() => 'one of them')()).toBe('one of them');
  });

  test('keeps this, the arguments, the name and the length, also as a method', async () => {
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

  test('one deadline covers all resources: what was taken by then is given back', async () => {
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

  test('busy: a ServerBusyError, which is a ThrottleTimeoutError that tells a client nothing', async () => {
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

  test('busy, where somebody knows for how long: retryAfter says it', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle(1, 0, 60, { clock });
    const limiter = new Limiter({ timeout: 1, resources: [throttle], clock });
    await limiter.acquire([throttle]);
    expect(await rejection(limiter.acquire([throttle]))).toMatchObject({ name: 'ServerBusyError', retryAfter: 60 });
  });

  test('a timeout of 0 tries once, and takes what is free', async () => {
    const { database, files, limiter } = setUp(0);
    const permit = await limiter.acquire([database, files]);
    expect(await rejection(limiter.acquire([files]))).toBeInstanceOf(ServerBusyError);
    expect(files.waiting).toBe(0);
    permit.release();
    expect(await limiter.resources([files])(() => 'free')()).toBe('free');
  });

  test('a timeout that the handler throws passes through unchanged, and so does whatever else refuses', async () => {
    const { database, files, limiter } = setUp();
    const own = new ThrottleTimeoutError('of the handler itself');
    expect(await rejection(limiter.resources([database])(() => Promise.reject(own))())).toBe(own);
    files.close('maintenance');
    const closed = await rejection(limiter.resources([database, files])(() => 1)());
    expect(closed).toMatchObject({ name: 'ThrottleClosedError', cause: 'maintenance' });
    const full = new Resource(1, { maxQueue: 0 });
    await full.acquire();
    const error = await rejection(new Limiter({ timeout: 1, resources: [full] }).acquire([full]));
    expect(error).toBeInstanceOf(QueueFullError);
    const broken: Gate = Object.assign(new Throttle(1), { acquire: () => Promise.reject(new Error('no connection')) });
    const onTop = new Limiter({ timeout: 1, resources: [database, broken] });
    expect(await rejection(onTop.acquire([database, broken]))).toEqual(new Error('no connection'));
    expect(database.active).toBe(0);
  });

  test('an abort is told by its own reason, be that a timeout', async () => {
    const { files, limiter } = setUp();
    await files.acquire();
    const controller = new AbortController();
    const waiting = rejection(limiter.acquire([files], { signal: controller.signal }));
    const reason = new ThrottleTimeoutError('the deadline of somebody further up');
    controller.abort(reason);
    expect(await waiting).toBe(reason);
  });

  test('FIFO: those who need the same come in the order of their calls', async () => {
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

describe('a permit for several', () => {
  test('releases and settles all of them, once, and tells how long it took', async () => {
    const clock = new ManualClock(100);
    const [slow, fast] = [new Throttle(10, 1, 1, { clock }), new Throttle(20, 1, 1, { clock })];
    const limiter = new Limiter({ timeout: 10, resources: [slow, fast], clock });
    const both = limiter.resources([slow, fast]);
    const held = await fast.acquire(0);
    const coming = both.acquire(4);
    await clock.advance(2);
    held.release();
    const permit = await coming;
    expect(permit).toMatchObject({ cost: 4, waited: 2, released: false });
    expect([slow.active, fast.active]).toEqual([1, 1]);
    permit.settle(2);
    permit.settle(9);
    permit.refund();
    expect(permit.cost).toBe(2);
    expect([slow.tokens, fast.tokens]).toEqual([10, 18]);
    expect(() => permit.settle(-1)).toThrow('cost must be a finite number >= 0, received -1');
    permit.release();
    permit.release();
    permit[Symbol.dispose]();
    await permit[Symbol.asyncDispose]();
    expect([permit.released, slow.active, fast.active]).toEqual([true, 0, 0]);
    {
      await using refunded = await both.acquire(5);
      refunded.refund();
      expect([slow.active, fast.active]).toEqual([1, 1]);
    }
    expect([slow.active, fast.active, slow.tokens, fast.tokens]).toEqual([0, 0, 10, 18]);
  });

  test('await using waits for what each of them has to do', async () => {
    const order: string[] = [];
    const slow = (name: string): Gate =>
      Object.assign(new Throttle(10), {
        acquire: async () =>
          ({
            release: () => order.push(`${name} is told`),
            async [Symbol.asyncDispose]() {
              await new Promise((resolve) => void setTimeout(resolve, 5));
              order.push(`${name} is back`);
            },
          }) as unknown as Permit,
      });
    const gates = [slow('first'), slow('second')];
    {
      await using _ = await new Limiter({ timeout: 1, resources: gates }).acquire(gates);
      order.push('works');
    }
    expect(order).toEqual(['works', 'second is told', 'first is told', 'second is back', 'first is back']);
  });

  test('one that fails to come back keeps none of the others', async () => {
    const { database, files } = setUp();
    const failing: Gate = Object.assign(new Throttle(10), {
      acquire: async () =>
        ({
          release: () => {
            throw new Error('lost');
          },
          settle: () => {
            throw new Error('lost, too');
          },
        }) as unknown as Permit,
    });
    const limiter = new Limiter({ timeout: 0, resources: [database, failing, files] });
    const permit = await limiter.acquire([database, failing, files]);
    const thrown = (call: () => void): unknown => {
      try {
        call();
      } catch (error) {
        return error;
      }
      return 'nothing';
    };
    expect(thrown(() => permit.settle(3))).toEqual(new Error('lost, too'));
    expect(thrown(() => permit.release())).toEqual(new Error('lost'));
    permit.release();
    // What the handler itself has to say matters more.
    const both = limiter.resources([database, failing]);
    await expect(both(() => Promise.reject(new Error('its own')))()).rejects.toThrow('its own');
    await expect(both(() => 'well')()).rejects.toThrow('lost');
    expect(database.active).toBe(0);
    // Of two that fail, the one that was to go first is told of.
    const worse: Gate = Object.assign(new Throttle(10), {
      acquire: async () =>
        ({
          release: () => {
            throw new Error('lost before');
          },
        }) as unknown as Permit,
      pause: () => {
        throw new Error('no pause');
      },
    });
    const two = new Limiter({ timeout: 0, resources: [failing, worse, database] }).resources([
      failing,
      worse,
      database,
    ]);
    const joint = await two.acquire();
    expect(() => joint.release()).toThrow('lost before');
    await expect(two.pause(5)).rejects.toThrow('no pause');
    expect(database.tryAcquire()).toBeUndefined();
    database.resume();
    expect([database.active, files.active]).toEqual([0, 0]);
    await files.acquire();
    // Why nothing was had matters more.
    expect(await rejection(limiter.acquire([database, failing, files]))).toBeInstanceOf(ServerBusyError);
    expect(database.active).toBe(0);
  });
});

describe('resources as a gate', () => {
  test('tryAcquire takes all or none', async () => {
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

  test("pause, resume and close reach each of them; timeout is the limiter's", async () => {
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
    await both.close('over');
    expect([database.closed, files.closed]).toEqual([true, true]);
    await expect(both.acquire()).rejects.toMatchObject({ cause: 'over' });
  });

  test('an abort at any stage takes nothing along', async () => {
    const { database, files, limiter } = setUp();
    const both = limiter.resources([database, files]);
    const reason = new Error('gone');
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

test('trap 14: whoever needs several can never wait in a circle, whatever they need and however long they work', async () => {
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
