/** The events that throttles on Redis publish through `node:diagnostics_channel`, and their metrics. */
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { instrument } from 'headgate/otel';
import { type RedisCommands, RedisKeyedThrottle, RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { recordEvents, type RecordedEvent, listen, outcome } from '../support/record-events.js';
import { evalThrough, freshKey, ioredis, later, until } from './support.js';

const open = (options: Partial<RedisThrottleOptions> = {}): RedisThrottle => {
  const { client, close } = ioredis();
  const throttle = new RedisThrottle({ client, key: freshKey(), ttl: 5, name: 'fleet', ...options });
  onTestFinished(async () => {
    await throttle.close();
    await close();
  });
  return throttle;
};

const brief = (received: RecordedEvent[]): string[] => {
  const first = Math.min(...received.map((message) => ('id' in message ? message.id : Infinity)));
  return received.map((message) => {
    if (message.kind === 'paused') return `paused ${message.seconds}`;
    const reason = message.kind === 'refused' ? ` ${message.reason}` : '';
    return `${message.kind} ${message.id - first + 1} cost ${message.cost}${reason}`;
  });
};

const refusals = (received: RecordedEvent[]): RecordedEvent[] => received.filter(({ kind }) => kind === 'refused');

/** A client that never replies. */
const dead: RedisCommands = { eval: () => new Promise(() => {}), subscribe: async () => {} };

describe('channels of a RedisThrottle', () => {
  test('publish the events of each call in order, with one id', async () => {
    const received = recordEvents();
    const throttle = open({ concurrency: 1, maxQueue: 1 });
    const first = await throttle.acquire(2);
    const second = throttle.acquire(3);
    await until('the second waits', () => received.length === 2);
    await outcome(throttle.acquire());
    first.release();
    const permit = await second;
    permit.settle(5);
    permit.release();
    permit.release();
    await throttle.idle();
    expect(brief(received)).toEqual([
      'granted 1 cost 2',
      'queued 2 cost 3',
      'refused 3 cost 1 queue full',
      'released 1 cost 2',
      'granted 2 cost 3',
      'released 2 cost 5',
    ]);
    for (const message of received) expect(message).toMatchObject({ throttle, name: 'fleet' });
    expect(received[4]).toMatchObject({ waited: permit.waited });
  });

  test('publish every refusal with its reason and error', async () => {
    const throttle = open({ concurrency: 1 });
    const permit = await throttle.acquire();
    const received = recordEvents();
    const outcomes: [reason: string, error: unknown][] = [];
    const refused = async (reason: string, promise: Promise<unknown>): Promise<void> =>
      void outcomes.push([reason, await outcome(promise)]);
    await refused('busy', throttle.tryAcquire());
    await refused('timeout', throttle.acquire(1, { timeout: 0 }));
    await refused(
      'timeout',
      throttle.run(() => {}, 1, { timeout: 0.03 }),
    );
    const controller = new AbortController();
    const aborted = throttle.acquire(1, { signal: controller.signal });
    controller.abort('enough');
    await refused('aborted', aborted);
    const closed = throttle.acquire();
    closed.catch(() => {});
    await throttle.close();
    await refused('closed', closed);
    await refused('closed', throttle.acquire());
    await refused('busy', throttle.tryAcquire());
    permit.release();
    expect(refusals(received)).toMatchObject(outcomes.map(([reason, error]) => ({ reason, error })));
    expect(outcomes[0]?.[1]).toBeUndefined();
  });

  test('a waiter whose cost exceeds a lowered burst is refused with the reason cost', async () => {
    const throttle = open({ capacity: 10, concurrency: 1 });
    const permit = await throttle.acquire();
    const received = recordEvents();
    const waiting = outcome(throttle.acquire(8));
    await until('one waiter is queued', () => received.length === 1);
    await throttle.configure({ burst: 5 });
    const error = await waiting;
    expect(refusals(received)).toMatchObject([{ reason: 'cost', error }]);
    permit.release();
  });

  test('a failing backend publishes a refusal for every call', async () => {
    const received = recordEvents();
    const throttle = open({ client: dead, commandTimeout: 0.02 });
    const errors = await Promise.all([throttle.acquire(), throttle.tryAcquire()].map(outcome));
    expect(refusals(received)).toMatchObject(errors.map((error) => ({ reason: 'backend', error })));
  });

  test('with failOpen, each local decision is published once, for this throttle', async () => {
    const received = recordEvents();
    const throttle = open({ client: dead, commandTimeout: 0.02, failOpen: true, concurrency: 2 });
    const permits = await Promise.all([throttle.acquire(), throttle.acquire()]);
    expect(throttle.held).toBe(2);
    const controller = new AbortController();
    const [waiting, aborted] = [throttle.acquire(), throttle.acquire(1, { signal: controller.signal })];
    expect(throttle.waiting).toBe(2);
    await throttle.tryAcquire();
    controller.abort(new RangeError('mine'));
    await outcome(aborted);
    for (const permit of permits) permit.release();
    (await waiting).release();
    expect([throttle.held, throttle.waiting]).toEqual([0, 0]);
    expect(brief(received).map((text) => text.replace(/ \d+ cost 1/, ''))).toEqual([
      'granted',
      'granted',
      'refused busy',
      'refused aborted',
      'released',
      'released',
      'granted',
      'released',
    ]);
    for (const message of received) expect(message.throttle).toBe(throttle);
    for (const name of ['granted', 'released'])
      expect(
        new Set(received.flatMap((message) => ('id' in message && message.kind === name ? [message.id] : []))).size,
      ).toBe(3);
  });

  test('metrics count the keys of a keyed throttle that the fallback serves', async () => {
    const received = recordEvents();
    const keyed = new RedisKeyedThrottle({
      client: dead,
      commandTimeout: 0.02,
      failOpen: true,
      concurrency: 1,
      name: 'users',
    });
    const permit = await keyed.acquire('ada');
    expect(received).toMatchObject([{ kind: 'granted', name: 'users', throttle: { held: 1 } }]);
    permit.release();
    expect(received).toMatchObject([{ kind: 'granted' }, { kind: 'released', throttle: { held: 0 } }]);
    await keyed.close();
  });

  test('a subscriber that calls acquire during a refusal causes no endless loop while Redis fails', async () => {
    let fails = false;
    const { client, close } = ioredis();
    onTestFinished(close);
    const answers: RedisCommands['eval'] = evalThrough(client);
    const custom: RedisCommands = {
      eval: (...words) => (fails ? Promise.reject(new Error('gone')) : answers(...words)),
      subscribe: async () => {},
    };
    const throttle = open({ client: custom, concurrency: 1, ttl: 0.3 });
    await throttle.acquire();
    const lost = later(throttle.acquire());
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    let received = 0;
    listen(({ kind }) => {
      if (kind === 'refused' && !throttle.closed && ++received < 10_000) void later(throttle.acquire());
    });
    fails = true;
    await outcome(lost);
    expect(received).toBeLessThan(100);
    await throttle.close();
  });

  test('a lost lease is published as released once', async () => {
    const throttle = open({ concurrency: 1 });
    const permit = await throttle.acquire();
    const received = recordEvents();
    await throttle.reset();
    await until('the permit is lost', () => permit.signal.aborted);
    permit.release();
    await throttle.idle();
    expect(received.map(({ kind }) => kind)).toEqual(['released']);
  });

  test('a waiter that loses its place and returns to the queue is published once', async () => {
    const throttle = open({ concurrency: 1 });
    const permit = await throttle.acquire();
    const received = recordEvents();
    const waiting = throttle.acquire();
    await until('one waiter is queued', () => received.length === 1);
    await throttle.reset();
    await until('the first is lost', () => permit.signal.aborted);
    (await waiting).release();
    expect(received.map(({ kind }) => kind)).toEqual(['queued', 'released', 'granted', 'released']);
  });

  test('publish the pauses of this process', async () => {
    const received = recordEvents();
    const throttle = open();
    await throttle.pause(30);
    await throttle.pause(0);
    await throttle.pause();
    await throttle.resume();
    expect(brief(received)).toEqual(['paused 30', 'paused Infinity', 'paused 0']);
  });

  test('metrics count permits and waiters of this process, and no tokens', async () => {
    const exporter = new PrometheusExporter({ preventServerStart: true });
    const provider = new MeterProvider({ readers: [exporter] });
    onTestFinished(instrument(provider));
    const throttle = open({ capacity: 100, concurrency: 2 });
    const permits = [await throttle.acquire(), await throttle.acquire()];
    const waiting = throttle.acquire();
    await until('one waiter is queued', async () => (await throttle.inspect()).waiting.length === 1);
    const { resourceMetrics } = await exporter.collect();
    const values = resourceMetrics.scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap(({ descriptor, dataPoints }) =>
        dataPoints.map(({ value, attributes }) => [
          descriptor.name,
          attributes,
          typeof value === 'number' ? value : (value as { count: number }).count,
        ]),
      ),
    );
    expect(values).toEqual(
      expect.arrayContaining([
        ['headgate.active', { name: 'fleet' }, 2],
        ['headgate.queue.length', { name: 'fleet' }, 1],
        ['headgate.wait.duration', { name: 'fleet' }, 2],
      ]),
    );
    expect(values.map(([name]) => name)).not.toContain('headgate.tokens');
    for (const permit of permits) permit.release();
    (await waiting).release();
  });
});
