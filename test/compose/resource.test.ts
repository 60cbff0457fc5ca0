/** A resource: a gate with a concurrency limit and no rate. */
import { QueueFullError, Resource, Throttle } from 'headgate';
import { ManualClock, record } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { Outcomes } from '../support/support.js';

/** The public members of a throttle that a gate without a rate cannot have, or that only headgate uses. */
const OF_RATES = ['period', 'burst', 'tokens', 'levels', 'also', 'correct'];
const INTERNAL = [
  'onRelease',
  'onSettle',
  'publishRefusal',
  'rates',
  'maxCosts',
  'ttl',
  'names',
  'now',
  'expiredError',
  'describe',
];

describe('Resource', () => {
  test('has every member of a throttle, unless the member is about rates', () => {
    const membersOf = (prototype: object): string[] => Reflect.ownKeys(prototype).map(String).toSorted();
    void [new Throttle(1), new Resource(1)];
    const expected = membersOf(Throttle.prototype).filter((name) => ![...OF_RATES, ...INTERNAL].includes(name));
    expect(membersOf(Resource.prototype).filter((name) => name !== 'watched')).toEqual(expected);
  });

  test('can be recorded, drained, cleared and configured', async () => {
    const resource = new Resource(1, { name: 'workers' });
    using trace = record(resource);
    const permit = await resource.acquire();
    const waiting = [resource.acquire().catch((error: Error) => error.name), resource.acquire().catch(() => {})];
    await resource.idle({ below: 3 });
    resource.clear('reason');
    expect(await waiting[0]).toBe('QueueClearedError');
    resource.configure({ capacity: 2 });
    resource.configure({});
    expect(resource.capacity).toBe(2);
    for (const capacity of [0, 1.5, Infinity, '2'])
      expect(() => resource.configure({ capacity: capacity as number })).toThrow(/^capacity must be an integer >= 1/);
    expect(() => resource.configure(2 as never)).toThrow('limits must be an object, received 2');
    const drained = resource.drain();
    await expect(resource.acquire()).rejects.toThrow(/draining/);
    permit.release();
    await drained;
    expect(trace.events.map((event) => (event.kind === 'refused' ? event.reason : event.kind))).toEqual([
      'granted',
      'queued',
      'queued',
      'cleared',
      'cleared',
      'closed',
      'released',
    ]);
  });

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
