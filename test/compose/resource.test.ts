/** A resource: a gate with a concurrency limit and no rate. */
import { QueueFullError, Resource } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';

describe('Resource', () => {
  test.each<[unknown, typeof RangeError | typeof TypeError]>([
    [0, RangeError],
    [-1, RangeError],
    [1.5, RangeError],
    [NaN, RangeError],
    [Infinity, RangeError],
    ['1', TypeError],
    [undefined, TypeError],
  ])('the constructor rejects a capacity of %s', (capacity, Kind) => {
    expect(() => new Resource(capacity as number)).toThrow(Kind);
    expect(() => new Resource(capacity as number)).toThrow(/^capacity must be an integer >= 1, received /);
  });

  test('the constructor rejects invalid options', () => {
    expect(() => new Resource(1, null as never)).toThrow(new TypeError('options must be an object, received null'));
    expect(() => new Resource(1, { maxQueue: -1 })).toThrow('maxQueue must be an integer >= 0, received -1');
  });

  test('a resource is a gate with a concurrency limit, and costs have no effect', async () => {
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

  test('idle and await using wait until every permit is released', async () => {
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
