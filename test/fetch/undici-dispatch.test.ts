/** The interceptor for undici between a dispatcher and a handler that are both under the control of the test. */
import { type Gate, KeyedThrottle, type Permit, Throttle } from 'headgate';
import { undiciThrottle, type UndiciThrottleOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { type DispatchController, type DispatchHandler, RequestController } from '../../src/fetch/undici-controller.js';

type Dispatch = (request: object, handler: DispatchHandler) => boolean;

const makeTarget = () => ({
  aborted: false,
  paused: false,
  reason: null as unknown,
  rawHeaders: ['a', '1'],
  rawTrailers: ['b', '2'],
  abort: vi.fn(),
  pause: vi.fn(),
  resume: vi.fn(),
});
const makeHandler = () => ({
  onRequestStart: vi.fn(),
  onRequestUpgrade: vi.fn(),
  onResponseStart: vi.fn(),
  onResponseData: vi.fn(),
  onResponseEnd: vi.fn(),
  onResponseError: vi.fn(),
});

/** A dispatcher behind the interceptor. `sent` has the handler of each attempt. */
function intercept<K>(gate: Gate | KeyedThrottle<K>, options: UndiciThrottleOptions<K> = {}) {
  const sent: Required<DispatchHandler>[] = [];
  const interceptor = undiciThrottle(gate as never, options as never) as unknown as (dispatch: Dispatch) => Dispatch;
  const dispatch = interceptor((_, handler) => {
    sent.push(handler as Required<DispatchHandler>);
    return true;
  });
  const handler = makeHandler();
  const start = async (request: object = {}): Promise<Required<DispatchHandler>> => {
    expect(dispatch({ path: '/', method: 'GET', ...request }, handler)).toBe(true);
    await vi.waitFor(() => expect(sent.length + handler.onResponseError.mock.calls.length).toBeGreaterThan(0));
    return sent.at(-1) as Required<DispatchHandler>;
  };
  return { start, handler, sent };
}

describe('the key', () => {
  test.each<[string, UndiciThrottleOptions, object, string]>([
    ['is the origin', {}, { origin: 'http://a.test/path' }, 'http://a.test'],
    ['of a client without an origin is empty', {}, {}, ''],
    ['may be fixed', { key: 'fixed' }, { origin: 'http://a.test' }, 'fixed'],
    ['may be a function of the request', { key: ({ path }) => path }, {}, '/'],
  ])('%s', async (_, options, request, key) => {
    const gate = new KeyedThrottle({ concurrency: 1 });
    await intercept(gate, options).start(request);
    expect([gate.size, gate.peek(key)?.active]).toEqual([1, 1]);
  });

  test.each([
    ['undefined', () => undefined, 'key must be a key, received undefined'],
    ['a promise', () => Promise.resolve('ada'), 'key must be no promise, received object'],
  ])('that is %s fails the request', async (_, key, message) => {
    const gate = new KeyedThrottle({ concurrency: 1 });
    const { start, handler, sent } = intercept(gate, { key: key as never });
    await start();
    expect(handler.onResponseError.mock.calls[0]?.[1]).toMatchObject({ message });
    expect([sent.length, gate.size]).toEqual([0, 0]);
  });

  test('is refused for a gate without keys', () => {
    expect(() => intercept(new Throttle(1), { key: 'ada' })).toThrow(/^key must be undefined for a gate without keys/);
  });
});

describe('the controller of a request', () => {
  test('shows the headers of the present attempt, and the reason of an abort', () => {
    const controller = new RequestController(makeHandler());
    expect([controller.rawHeaders, controller.rawTrailers, controller.reason]).toEqual([null, null, null]);
    const target = makeTarget();
    controller.connect(target);
    expect([controller.rawHeaders, controller.rawTrailers]).toEqual([
      ['a', '1'],
      ['b', '2'],
    ]);
    controller.abort('stop');
    expect([controller.aborted, controller.reason]).toEqual([true, 'stop']);
    expect(target.abort).toHaveBeenCalledExactlyOnceWith('stop');
  });

  test('passes a pause and an abort to the next attempt', () => {
    const controller = new RequestController(makeHandler());
    controller.pause();
    const [first, second] = [makeTarget(), makeTarget()];
    controller.connect(first);
    expect(first.pause).toHaveBeenCalledOnce();
    controller.resume();
    expect(first.resume).toHaveBeenCalledOnce();
    controller.abort('stop');
    controller.connect(second);
    expect([second.abort.mock.calls, second.pause.mock.calls]).toEqual([[['stop']], []]);
  });

  test('calls nothing after the end of the request', () => {
    const handler = makeHandler();
    const controller = new RequestController(handler);
    controller.forward('onResponseEnd', {});
    controller.forward('onResponseData', 'late');
    controller.fail(new Error('late'));
    controller.abort('late');
    expect([handler.onResponseData, handler.onResponseError].map(({ mock }) => mock.calls)).toEqual([[], []]);
    expect(controller.aborted).toBe(false);
  });

  test('an error of onResponseError is ignored', () => {
    const controller = new RequestController({
      onResponseError() {
        throw new Error('from the handler');
      },
    });
    expect(() => controller.fail(new Error('failed'))).not.toThrow();
  });
});

describe('an attempt', () => {
  test('that a dispatcher fails twice is reported once', async () => {
    const throttle = new Throttle({ concurrency: 1 });
    const { start, handler } = intercept(throttle);
    const attempt = await start();
    attempt.onResponseError(makeTarget(), new Error('first'));
    attempt.onResponseError(makeTarget(), new Error('second'));
    await vi.waitFor(() => expect(handler.onResponseError).toHaveBeenCalledOnce());
    expect(throttle.active).toBe(0);
  });

  test('that upgrades releases at the upgrade by default', async () => {
    const throttle = new Throttle({ concurrency: 1 });
    const { start, handler } = intercept(throttle);
    (await start()).onRequestUpgrade(makeTarget(), 101, {}, {});
    expect(handler.onRequestUpgrade).toHaveBeenCalledOnce();
    expect(throttle.active).toBe(0);
  });

  test('with refundRefused: false, a refusal keeps its cost', async () => {
    const clock = new ManualClock();
    const throttle = new Throttle({ capacity: 10, period: 1_000, clock });
    const { start, handler } = intercept(throttle, { refundRefused: false, retries: 0, clock });
    (await start()).onResponseStart(makeTarget(), 429, { 'retry-after': '1' });
    await vi.waitFor(() => expect(handler.onResponseStart).toHaveBeenCalledOnce());
    expect(throttle.tokens).toBe(9);
  });

  test('a handler that pauses at the headers stays paused', async () => {
    const target = makeTarget();
    const { start, handler } = intercept(new Throttle({ concurrency: 1 }), { refusal: () => false });
    handler.onResponseStart.mockImplementation((controller: DispatchController) => controller.pause());
    const attempt = await start();
    attempt.onRequestStart(target, {});
    attempt.onResponseStart(target, 200, {});
    await vi.waitFor(() => expect(handler.onResponseStart).toHaveBeenCalledOnce());
    expect(target.resume).not.toHaveBeenCalled();
  });

  test('a permit without a signal is released', async () => {
    const release = vi.fn();
    const permit = {
      release,
      refund: vi.fn(),
      settle: vi.fn(),
      cost: 1,
      waited: 0,
      released: false,
    } as unknown as Permit;
    const gate = { ...new Throttle(1).toJSON(), acquire: async () => permit, pause() {}, resume() {} };
    const { start } = intercept(gate as unknown as Gate);
    (await start()).onResponseStart(makeTarget(), 200, {});
    expect(release).toHaveBeenCalled();
  });
});
