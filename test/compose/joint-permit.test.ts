/** One permit for several gates. */
import { type Gate, Limiter, type Permit, Resource, ServerBusyError, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';

const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'fulfilled',
    (error: unknown) => error,
  );

describe('JointPermit', () => {
  test('release and settle apply to all permits, once, and waited is the whole wait', async () => {
    const clock = new ManualClock(100);
    const [slow, fast] = [new Throttle(10, 1, 1, { clock }), new Throttle(20, 1, 1, { clock })];
    const limiter = new Limiter({ timeout: 10, resources: [slow, fast], clock });
    const both = limiter.resources([slow, fast]);
    const held = await fast.acquire(0);
    const acquiring = both.acquire(4);
    await clock.advance(2);
    held.release();
    const permit = await acquiring;
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

  test('await using awaits the asynchronous disposal of each permit', async () => {
    const order: string[] = [];
    const slow = (name: string): Gate =>
      Object.assign(new Throttle(10), {
        acquire: async () =>
          ({
            release: () => order.push(`${name} released`),
            async [Symbol.asyncDispose]() {
              await new Promise((resolve) => void setTimeout(resolve, 5));
              order.push(`${name} disposed`);
            },
          }) as unknown as Permit,
      });
    const gates = [slow('first'), slow('second')];
    {
      await using _ = await new Limiter({ timeout: 1, resources: gates }).acquire(gates);
      order.push('works');
    }
    expect(order).toEqual(['works', 'second released', 'first released', 'second disposed', 'first disposed']);
  });

  test('await using releases permits that have no disposal methods', async () => {
    const released: string[] = [];
    const gate: Gate = Object.assign(new Throttle(10), {
      acquire: async () => ({ release: () => released.push('released') }) as unknown as Permit,
    });
    {
      await using _ = await new Limiter({ timeout: 1, resources: [gate] }).acquire([gate]);
    }
    expect(released).toEqual(['released']);
  });

  test('all permits are released and settled even when one of them throws', async () => {
    const [database, files] = [new Resource(2), new Resource(1)];
    const failing: Gate = Object.assign(new Throttle(10), {
      acquire: async () =>
        ({
          release: () => {
            throw new Error('release failed');
          },
          settle: () => {
            throw new Error('settle failed');
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
    expect(thrown(() => permit.settle(3))).toEqual(new Error('settle failed'));
    expect(thrown(() => permit.release())).toEqual(new Error('release failed'));
    permit.release();
    // An error of the handler takes precedence.
    const both = limiter.resources([database, failing]);
    await expect(both(() => Promise.reject(new Error('handler failed')))()).rejects.toThrow('handler failed');
    await expect(both(() => 'done')()).rejects.toThrow('release failed');
    expect(database.active).toBe(0);
    // With two failures, the error of the first release is thrown.
    const failingToo: Gate = Object.assign(new Throttle(10), {
      acquire: async () =>
        ({
          release: () => {
            throw new Error('other release failed');
          },
        }) as unknown as Permit,
      pause: () => {
        throw new Error('pause failed');
      },
    });
    const two = new Limiter({ timeout: 0, resources: [failing, failingToo, database] }).resources([
      failing,
      failingToo,
      database,
    ]);
    const joint = await two.acquire();
    expect(() => joint.release()).toThrow('other release failed');
    await expect(two.pause(5)).rejects.toThrow('pause failed');
    expect(database.tryAcquire()).toBeUndefined();
    database.resume();
    expect([database.active, files.active]).toEqual([0, 0]);
    await files.acquire();
    // The reason of the refusal takes precedence over an error of the release.
    expect(await rejection(limiter.acquire([database, failing, files]))).toBeInstanceOf(ServerBusyError);
    expect(database.active).toBe(0);
  });
});
