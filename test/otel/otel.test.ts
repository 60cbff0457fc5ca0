/** `headgate/otel` with the OpenTelemetry SDK. The tests scrape `/metrics` over HTTP, like Prometheus. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type MeterProvider as Provider, metrics } from '@opentelemetry/api';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { describe, expect, onTestFinished, test } from 'vitest';
import { KeyedThrottle, Throttle } from '../../src/index.js';
import { instrument } from '../../src/otel/index.js';
import { ManualClock } from '../../src/testing/index.js';

interface Scraped {
  readonly provider: MeterProvider;
  /** The values of headgate's metrics in the reply of `/metrics`, by name and labels. */
  scrape(): Promise<Record<string, number>>;
  /** The whole reply of `/metrics`. */
  text(): Promise<string>;
}

async function setUp(): Promise<Scraped> {
  const exporter = new PrometheusExporter({
    preventServerStart: true,
    withoutScopeInfo: true,
    withoutTargetInfo: true,
  });
  const provider = new MeterProvider({ readers: [exporter] });
  const server = createServer((request, response) => exporter.getMetricsRequestHandler(request, response)).listen(
    0,
    '127.0.0.1',
  );
  await once(server, 'listening');
  onTestFinished(async () => {
    await provider.shutdown();
    server.closeAllConnections();
    server.close();
  });
  const text = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`)).text();
  const scrape = async (): Promise<Record<string, number>> =>
    Object.fromEntries(
      (await text())
        .split('\n')
        .filter((line) => line.startsWith('headgate'))
        .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
    );
  return { provider, scrape, text };
}

/** Instruments the provider until the test ends. */
function start(provider: Provider): () => void {
  const stop = instrument(provider);
  onTestFinished(stop);
  return stop;
}

const ignore = (): void => {};

describe('instrument', () => {
  test('waits, the queue length, permits, tokens and refusals are measured', async () => {
    const { provider, scrape, text } = await setUp();
    start(provider);
    const clock = new ManualClock();
    const throttle = new Throttle(4, 2, 1, { clock, name: 'github', maxQueue: 2 });
    const permits = [await throttle.acquire(3), await throttle.acquire(0)];
    const waiting = [throttle.acquire(1), throttle.acquire(2, { timeout: 5 })];
    throttle.acquire().catch(ignore);
    throttle.tryAcquire();
    expect(await scrape()).toMatchObject({
      'headgate_active{name="github"}': 2,
      'headgate_queue_length{name="github"}': 2,
      'headgate_tokens{name="github"}': 1,
      'headgate_refused_total{name="github",reason="queue full"}': 1,
      'headgate_refused_total{name="github",reason="busy"}': 1,
      'headgate_wait_duration_count{name="github"}': 2,
      'headgate_wait_duration_sum{name="github"}': 0,
      'headgate_wait_duration_bucket{name="github",le="0"}': 2,
    });
    expect(await text()).toContain('# UNIT headgate_wait_duration s');

    await clock.advance(0.25);
    for (const permit of permits) permit.release();
    (await waiting[0])?.release();
    await clock.advance(0.25);
    (await waiting[1])?.release();
    const after = await scrape();
    expect(after).toMatchObject({
      'headgate_active{name="github"}': 0,
      'headgate_queue_length{name="github"}': 0,
      'headgate_wait_duration_count{name="github"}': 4,
      'headgate_wait_duration_sum{name="github"}': 0.25 + 0.5,
      'headgate_wait_duration_bucket{name="github",le="0.1"}': 2,
      'headgate_wait_duration_bucket{name="github",le="0.25"}': 3,
      'headgate_wait_duration_bucket{name="github",le="0.5"}': 4,
      'headgate_tokens{name="github"}': 0,
    });
    await clock.advance(100);
    expect(await scrape()).toMatchObject({ 'headgate_tokens{name="github"}': 4 });
    expect(await scrape()).toMatchObject({ 'headgate_tokens{name="github"}': 4, 'headgate_active{name="github"}': 0 });
    throttle.tryAcquire(3);
    expect(await scrape()).toMatchObject({ 'headgate_tokens{name="github"}': 1, 'headgate_active{name="github"}': 1 });
  });

  test('all keys of a keyed throttle share one series, with the fewest tokens and no key as a label', async () => {
    const { provider, scrape, text } = await setUp();
    start(provider);
    const keyed = new KeyedThrottle(10, 2, 60, { name: 'users' });
    const permits = [keyed.tryAcquire('ada', 3), keyed.tryAcquire('ada', 4), keyed.tryAcquire('bob', 1)];
    keyed.tryAcquire('ada');
    const waiting = keyed.acquire('ada', 1);
    expect(await scrape()).toMatchObject({
      'headgate_active{name="users"}': 3,
      'headgate_queue_length{name="users"}': 1,
      'headgate_tokens{name="users"}': expect.closeTo(3, 0),
      'headgate_refused_total{name="users",reason="busy"}': 1,
    });
    const labels = new Set((await text()).match(/[{,]\w+(?==")/g)?.map((label) => label.slice(1)));
    expect(labels).toEqual(new Set(['name', 'reason', 'le']));
    expect(await text()).not.toMatch(/ada|bob/);
    for (const permit of permits) permit?.release();
    (await waiting).release();
  });

  test('a throttle without a name has no name label, and one without a rate has no tokens', async () => {
    const { provider, scrape } = await setUp();
    start(provider);
    const permit = await new Throttle(Infinity, 1).acquire();
    const scraped = await scrape();
    permit.release();
    expect(scraped).toMatchObject({ headgate_active: 1, headgate_queue_length: 0, headgate_wait_duration_count: 1 });
    expect(Object.keys(scraped).filter((line) => line.includes('tokens'))).toEqual([]);
  });

  test('a throttle created before instrument appears with its next event', async () => {
    const { provider, scrape } = await setUp();
    const throttle = new Throttle(10, 3, 1, { name: 'old', clock: new ManualClock() });
    const permits = [throttle.tryAcquire(), throttle.tryAcquire(), throttle.tryAcquire()];
    const waiting = throttle.acquire();
    start(provider);
    expect(await scrape()).toEqual({});
    permits[0]?.release();
    expect(await scrape()).toMatchObject({ 'headgate_active{name="old"}': 3, 'headgate_queue_length{name="old"}': 0 });
    for (const permit of permits) permit?.release();
    (await waiting).release();
    expect(await scrape()).toMatchObject({ 'headgate_active{name="old"}': 0 });
  });

  test('a second call for a provider has no effect, and after stop a new call counts again', async () => {
    const { provider, scrape } = await setUp();
    const stop = start(provider);
    expect(instrument(provider)).toBe(stop);
    const throttle = new Throttle(1, 0, 60, { name: 'twice' });
    const count = 'headgate_wait_duration_count{name="twice"}';
    throttle.tryAcquire(0)?.release();
    expect(await scrape()).toMatchObject({ [count]: 1 });
    stop();
    throttle.tryAcquire(0)?.release();
    expect(await scrape()).toMatchObject({ [count]: 1 });
    const again = start(provider);
    stop();
    expect(instrument(provider)).toBe(again);
    throttle.tryAcquire(0)?.release();
    expect(await scrape()).toMatchObject({ [count]: 2 });
  });

  test('two providers both measure the same throttle', async () => {
    const [one, two] = [await setUp(), await setUp()];
    start(one.provider);
    start(two.provider);
    new Throttle(1, 0, 60, { name: 'both' }).tryAcquire();
    for (const { scrape } of [one, two]) expect(await scrape()).toMatchObject({ 'headgate_active{name="both"}': 1 });
  });

  test('instrument does not prevent the garbage collection of a throttle', async () => {
    const { provider, scrape } = await setUp();
    start(provider);
    const collected: string[] = [];
    const registry = new FinalizationRegistry<string>((name) => collected.push(name));
    const leak = (): void => {
      const throttle = new Throttle(1, 0, 1e6, { name: 'leaked' });
      registry.register(throttle, 'leaked');
      throttle.tryAcquire();
    };
    leak();
    for (let round = 0; round < 50 && collected.length === 0; round++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      globalThis.gc?.();
    }
    expect(collected).toEqual(['leaked']);
    expect(await scrape()).toMatchObject({ 'headgate_active{name="leaked"}': 0 });
  });

  test('a scrape reads one of 50,000 idle throttles', async () => {
    const { provider, scrape } = await setUp();
    start(provider);
    const clock = new ManualClock();
    const throttles = Array.from({ length: 50_000 }, () => new Throttle(10, 1, 1, { clock, name: 'many' }));
    for (const throttle of throttles) throttle.tryAcquire()?.release();
    await clock.advance(1);
    await scrape();
    let reads = 0;
    for (const throttle of throttles) Object.defineProperty(throttle, 'tokens', { get: () => (reads++, 10) });
    expect(await scrape()).toMatchObject({ 'headgate_tokens{name="many"}': 10 });
    // The idle throttle with the fewest tokens.
    expect(reads).toBe(1);
  });

  test('tokens are current after configure and settle, also for an idle throttle', async () => {
    const { provider, scrape } = await setUp();
    start(provider);
    const clock = new ManualClock();
    const throttle = new Throttle(10, 0, 1, { clock, name: 'one' });
    const tokens = async (): Promise<number | undefined> => (await scrape())['headgate_tokens{name="one"}'];
    const permit = throttle.tryAcquire();
    throttle.configure({ capacity: 1_000 });
    await clock.advance(0.4);
    expect(await tokens()).toBe(409);
    permit?.release();
    await clock.advance(1);
    expect(await tokens()).toBe(1_000);
    throttle.configure({ capacity: 2 });
    expect(await tokens()).toBe(2);
    throttle.tryAcquire()?.settle(4);
    expect(await tokens()).toBe(-2);
  });

  test('each named rate has a series of its own, and a throttle is idle only if all its rates are full', async () => {
    const { provider, scrape } = await setUp();
    start(provider);
    const clock = new ManualClock();
    const also = [
      { name: 'tokens', capacity: 100, period: 10 },
      { name: 'free', capacity: Infinity },
    ];
    const throttle = new Throttle(10, 0, 1, { clock, name: 'llm', also });
    throttle.tryAcquire({ tokens: 60 })?.release();
    new Throttle(10, 0, 1, { clock, name: 'llm', also: [{ name: 'tokens', capacity: 70 }] }).tryAcquire(0)?.release();
    const series = async (): Promise<Record<string, number>> =>
      Object.fromEntries(Object.entries(await scrape()).filter(([name]) => name.startsWith('headgate_tokens')));
    const main = 'headgate_tokens{name="llm"}';
    const named = 'headgate_tokens{name="llm",rate="tokens"}';
    expect(await series()).toEqual({ [main]: 9, [named]: 40 });
    // The main rate is full again. The rate of the tokens is not.
    await clock.advance(2);
    expect(await series()).toEqual({ [main]: 10, [named]: 60 });
    await clock.advance(8);
    expect(await series()).toEqual({ [main]: 10, [named]: 70 });
    throttle.correct({ tokens: 5 });
    expect(await series()).toEqual({ [main]: 10, [named]: 70 });
    throttle.tryAcquire({ tokens: 1 })?.release();
    expect(await series()).toEqual({ [main]: 9, [named]: 4 });
  });

  test('of several idle throttles, the fewest tokens are reported', async () => {
    const { provider, scrape } = await setUp();
    start(provider);
    const clock = new ManualClock();
    for (const burst of [100, 3, 50]) new Throttle(burst, 0, 1, { clock, name: 'some' }).tryAcquire(0)?.release();
    for (let round = 0; round < 2; round++) expect(await scrape()).toMatchObject({ 'headgate_tokens{name="some"}': 3 });
  });

  test('evicted keys take no memory, even if no reader collects the metrics', async () => {
    start(metrics.getMeterProvider());
    const keyed = new KeyedThrottle(1, 1, 1e-6, { name: 'many', maxKeys: 100_000 });
    const heap = (): number => {
      globalThis.gc?.();
      return process.memoryUsage().heapUsed;
    };
    let before = 0;
    for (let key = 0; key < 300_000; key++) {
      if (key === 50_000) before = heap();
      keyed.tryAcquire(String(key))?.release();
      // The target of a dereferenced weak reference stays in memory until the task ends.
      if (key % 1_000 === 0) await new Promise((resolve) => void setImmediate(resolve));
    }
    expect(heap() - before).toBeLessThan(4e6);
  });

  test('instrument rejects a value that is not a provider, and accepts the default provider', () => {
    expect(() => instrument(undefined as unknown as Provider)).toThrow(
      new TypeError('meterProvider must be a MeterProvider, received undefined'),
    );
    expect(() => instrument({} as Provider)).toThrow(TypeError);
    instrument(metrics.getMeterProvider())();
  });
});
