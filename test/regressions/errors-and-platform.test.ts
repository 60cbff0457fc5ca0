/** Errors, small methods, and platforms without Symbol.dispose. */
import {
  QueueFullError,
  Resource,
  ServerBusyError,
  Throttle,
  ThrottleClosedError,
  ThrottleError,
  ThrottleTimeoutError,
} from 'headgate';
import { ManualClock, record } from 'headgate/testing';
import { describe, expect, test, vi } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('a platform without Symbol.dispose, or with a polyfill that loads later (FAULTS 17)', () => {
  test('the disposal methods have the keys that `using` looks up', async () => {
    // This platform has the symbols. A separate realm, whose `Symbol` hides them, represents an older platform.
    const { runInNewContext } = await import('node:vm');
    const { build } = await import('esbuild');
    const { outputFiles } = await build({
      entryPoints: ['src/index.ts'],
      bundle: true,
      format: 'iife',
      globalName: 'headgate',
      platform: 'neutral',
      write: false,
    });
    const code = outputFiles[0]?.text ?? '';
    const result: Record<string, unknown> = {};
    const results = runInNewContext(
      `const hidden = ['dispose', 'asyncDispose'];
       const Old = new Proxy(Symbol, { get: (target, key) => (hidden.includes(key) ? later[key] : target[key]) });
       const later = {};
       const keys = [Symbol.for('Symbol.dispose'), Symbol.for('Symbol.asyncDispose')];
       (function (Symbol) { ${code}; out.headgate = headgate; })(Old);
       const { Throttle, KeyedThrottle, Resource, Limiter } = out.headgate;
       const check = (value, both) =>
         (both ? keys : keys.slice(1)).every((key) => typeof value[key] === 'function') && !('undefined' in value);
       const throttle = new Throttle(10, 2), resource = new Resource(3);
       const limiter = new Limiter({ timeout: 1, resources: [resource, throttle] });
       const permits = [throttle.tryAcquire(), new KeyedThrottle(1).tryAcquire('a')];
       const found = [throttle, resource, new KeyedThrottle(1)].map((value) => check(value));
       found.push(...permits.map((permit) => check(permit, true)));
       permits[0][keys[0]]();
       const released = throttle.active;
       // A polyfill with other symbols loads now.
       later.dispose = Symbol('dispose'); later.asyncDispose = Symbol('asyncDispose');
       const permit = new Throttle(10).tryAcquire();
       permit[later.dispose]();
       limiter.acquire([resource, throttle]).then((joint) => {
         joint[later.dispose]();
         out.joint = [resource.active, throttle.active];
       });
       [found, released, permit.released, typeof new Throttle(1)[later.asyncDispose]]`,
      { out: result, performance, setTimeout, clearTimeout, queueMicrotask, AbortController },
    ) as unknown;
    await new Promise((resolve) => void setTimeout(resolve, 20));
    expect(JSON.parse(JSON.stringify(results))).toEqual([[true, true, true, true, true], 0, true, 'function']);
    expect([...(result['joint'] as number[])]).toEqual([0, 0]);
  });

  test('without the symbols, the methods have the keys that compilers use', async () => {
    vi.stubGlobal('Symbol', Object.create(Symbol, { dispose: {}, asyncDispose: {} }));
    const throttle = new Throttle(10, 2);
    const permit = take(throttle);
    vi.unstubAllGlobals();
    (permit as unknown as Record<symbol, () => void>)[Symbol.for('Symbol.dispose')]?.();
    await (throttle as unknown as Record<symbol, () => Promise<void>>)[Symbol.for('Symbol.asyncDispose')]?.();
    expect([throttle.active, throttle.closed]).toEqual([0, true]);
  });
});

describe('errors and small methods (FAULTS 18)', () => {
  const errors = [
    new ThrottleError('ERR_CUSTOM', 'no'),
    new ThrottleTimeoutError('late', { retryAfter: 2 }),
    new QueueFullError('full'),
    new ThrottleClosedError('closed'),
    new ServerBusyError({ retryAfter: 3 }),
  ];
  test.each(errors.map((error) => [error.name, error] as const))(
    'the name of a %s is writable, and its stack begins with the name of the class',
    (name, error) => {
      expect(error.stack?.startsWith(`${name}: `)).toBe(true);
      error.name = 'Renamed';
      expect([error.name, String(error).startsWith('Renamed: ')]).toEqual(['Renamed', true]);
      expect(Object.keys(error)).not.toContain('name');
    },
  );

  test('an error is plain data in JSON, and structuredClone keeps its name in the stack only', () => {
    const error = new ThrottleTimeoutError('late', { retryAfter: 2 });
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      name: 'ThrottleTimeoutError',
      code: 'ERR_THROTTLE_TIMEOUT',
      message: 'late',
      retryAfter: 2,
    });
    expect(structuredClone(error.toJSON())).toEqual(error.toJSON());
    // The algorithm of structuredClone drops every other property, and every name that is not built in.
    const clone = structuredClone(error);
    expect([clone.name, clone.message, 'code' in clone, clone.stack?.split('\n')[0]]).toEqual([
      'Error',
      'late',
      false,
      'ThrottleTimeoutError: late',
    ]);
  });

  test('wrap keeps the name and the length of the wrapped function', () => {
    function sendMail(to: string, text: string): string {
      return to + text;
    }
    const { throttle } = setUp();
    for (const wrapped of [throttle.wrap(sendMail), new Resource(1).wrap(sendMail)])
      expect([wrapped.name, wrapped.length]).toEqual(['sendMail', 2]);
  });

  test('a resource has wrap, map, pausedFor and estimateWait, and can be recorded', async () => {
    const clock = new ManualClock();
    const resource = new Resource(2, { clock, name: 'disk' });
    const trace = record(resource);
    expect(await resource.wrap(async (text: string) => text.length)('four')).toBe(4);
    expect(await resource.map([1, 2, 3], (item) => item * 2)).toEqual([2, 4, 6]);
    resource.pause(5);
    expect([resource.pausedFor, resource.estimateWait()]).toEqual([5, 5]);
    trace.stop();
    expect(trace.name).toBe('disk');
    expect(trace.events.filter(({ kind }) => kind === 'granted').length).toBe(4);
  });

  test('configure({ burst: undefined }) resets the burst to the capacity', () => {
    const { throttle } = setUp(10, 0, 1, { burst: 3 });
    throttle.configure({ burst: undefined });
    expect(throttle.burst).toBe(10);
  });
});
