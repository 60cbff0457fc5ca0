/** `throttled`: a limit for any function that sends requests. */
import { KeyedThrottle, QueueFullError, Throttle } from 'headgate';
import { throttled, type ThrottledOptions } from 'headgate/fetch';
import { ManualClock } from 'headgate/testing';
import { describe, expect, expectTypeOf, test, vi } from 'vitest';
import { setUp } from '../support/support.js';
import { registerHooks } from './fake-upstream.js';
import { recordWarnings } from './warnings.js';

const random = registerHooks();
const warnings = recordWarnings();

class Refused extends Error {
  readonly wait: number | boolean;
  constructor(wait: number | boolean) {
    super('refused');
    this.wait = wait;
  }
}

type Reply = string | Error | (() => Promise<string>);
type Options = ThrottledOptions<[text: string], string>;

/** A sender that replies in turn, behind a throttle. Errors of the class `Refused` are refusals. */
const scene = (replies: Reply[], options: Options = {}, [capacity, concurrency] = [100, 1]) => {
  const { clock, throttle } = setUp(capacity, concurrency);
  const calls: [number, string][] = [];
  const send = async (text: string): Promise<string> => {
    calls.push([clock.now(), text]);
    const reply = replies.shift() ?? 'ok';
    if (reply instanceof Error) throw reply;
    return typeof reply === 'function' ? reply() : reply;
  };
  const refusal: Options['refusal'] = ({ error }) => (error instanceof Refused ? error.wait : false);
  return { clock, throttle, calls, limited: throttled(throttle, send, { refusal, clock, ...options }) };
};

describe('a call', () => {
  test('takes a permit until its promise has settled', async () => {
    let finish!: (text: string) => void;
    const { throttle, limited } = scene([() => new Promise((resolve) => void (finish = resolve))]);
    const pending = limited('a');
    await vi.waitFor(() => expect(finish).toBeTypeOf('function'));
    expect([throttle.active, throttle.tokens]).toEqual([1, 99]);
    finish('later');
    expect(await pending).toBe('later');
    expect(throttle.active).toBe(0);
  });

  test('rejects as the function does, and keeps its token spent', async () => {
    const { throttle, limited, calls } = scene([new Error('broken')]);
    await expect(limited('a')).rejects.toThrow('broken');
    expect([throttle.active, throttle.tokens, calls.length]).toEqual([0, 99, 1]);
  });

  test('keeps `this`, the arguments and the types', async () => {
    const client = {
      name: 'client',
      send: throttled(new Throttle(10), function (this: unknown, first: number, second?: string) {
        return [(this as { name: string }).name, first, second] as const;
      }),
    };
    expect(await client.send(1, 'b')).toEqual(['client', 1, 'b']);
    expectTypeOf(client.send).toEqualTypeOf<
      (first: number, second?: string) => Promise<readonly [string, number, string | undefined]>
    >();
  });

  test('costs what the function cost computes, also asynchronously', async () => {
    const { throttle, limited } = scene([], { cost: async (text) => text.length });
    await limited('12345');
    expect(throttle.tokens).toBe(95);
    await expect(scene([], { cost: () => 'x' as never }).limited('a')).rejects.toThrow('cost must be');
  });

  test('of a keyed gate waits for its key', async () => {
    const clock = new ManualClock();
    const keyed = new KeyedThrottle<number>(1, 0, 10, { clock });
    const limited = throttled(keyed, (id: number, text: string) => text + id, { key: (id) => id, clock });
    expect(await Promise.all([limited(1, 'a'), limited(2, 'b')])).toEqual(['a1', 'b2']);
    const third = limited(1, 'c');
    await clock.advance(9);
    expect(keyed.peek(1)!.waiting).toBe(1);
    await clock.advance(1);
    expect(await third).toBe('c1');
  });

  test.each([
    [undefined, 'key must be a key, received undefined'],
    [Promise.resolve('a'), 'key must be no promise, received object'],
  ])('of a keyed gate rejects for the key %o', async (key, message) => {
    const limited = throttled(new KeyedThrottle(1), () => 1, { key: () => key as never });
    await expect(limited()).rejects.toThrow(message);
  });
});

describe('a refusal', () => {
  test('pauses the gate, and the call is repeated and refunded', async () => {
    const { clock, throttle, limited, calls } = scene([new Refused(20)]);
    const pause = vi.spyOn(throttle, 'pause');
    const pending = limited('a');
    await clock.advance(19.9);
    expect([throttle.pausedFor > 0, throttle.active, throttle.tokens, calls.length]).toEqual([true, 0, 100, 1]);
    await clock.advance(0.1);
    expect(await pending).toBe('ok');
    expect([pause.mock.calls, calls]).toEqual([
      [[20]],
      [
        [0, 'a'],
        [20, 'a'],
      ],
    ]);
  });

  test('without a stated wait backs off by 1 s and 2 s, and then the error goes to the caller', async () => {
    const { clock, limited, calls } = scene([1, 2, 3].map(() => new Refused(true)));
    const pending = limited('a');
    pending.catch(() => {});
    await clock.advance(10);
    await expect(pending).rejects.toThrow('refused');
    expect(calls.map(([at]) => at)).toEqual([0, 1, 3]);
  });

  test('adds up to a quarter to the wait', async () => {
    random.mockReturnValue(0.8);
    const { clock, throttle, limited } = scene([new Refused(10)]);
    const pending = limited('a');
    await clock.advance(0);
    expect(throttle.pausedFor).toBe(12);
    await clock.advance(12);
    expect(await pending).toBe('ok');
  });

  test('can be a result', async () => {
    const { clock, limited, calls } = scene(['busy'], { refusal: async ({ result }) => result === 'busy' && 5 });
    const pending = limited('a');
    await clock.advance(5);
    expect([await pending, calls.length]).toEqual(['ok', 2]);
  });

  test('with a wait above maxPause pauses for maxPause, and goes to the caller', async () => {
    const { throttle, limited, calls } = scene([new Refused(100)], { maxPause: 30 });
    await expect(limited('a')).rejects.toThrow('refused');
    expect([throttle.pausedFor, calls.length, throttle.tokens]).toEqual([30, 1, 100]);
  });

  test('is not refunded with refundRefused: false', async () => {
    const { throttle, limited } = scene([new Refused(1)], { refundRefused: false, retries: 0 });
    await expect(limited('a')).rejects.toThrow('refused');
    expect(throttle.tokens).toBe(99);
  });

  test('of a burst pauses once', async () => {
    const { clock, throttle, limited, calls } = scene(
      [1, 2, 3].map(() => new Refused(true)),
      {},
      [100, 0],
    );
    const pause = vi.spyOn(throttle, 'pause');
    const pending = Promise.all(['a', 'b', 'c'].map((text) => limited(text)));
    await clock.advance(1);
    expect([await pending, pause.mock.calls, calls.length]).toEqual([['ok', 'ok', 'ok'], [[1]], 6]);
  });

  test.each<[string, Options['refusal']]>([
    [
      'throws',
      () => {
        throw new Error('broken');
      },
    ],
    ['rejects', () => Promise.reject(new Error('broken'))],
    ['returns a text', () => 'broken' as never],
    ['returns a negative number', () => -1],
  ])('is unknown if the function %s: the call rejects, and the slot is free', async (_what, refusal) => {
    const { throttle, limited } = scene([], { refusal });
    await expect(limited('a')).rejects.toThrow(/broken|refusal must be/);
    expect(throttle.active).toBe(0);
  });
});

describe('settle', () => {
  test('states the true cost, and holds the slot until it has ended', async () => {
    let end!: () => void;
    const { throttle, limited } = scene(['four'], {
      cost: 1,
      settle: async (result, permit) => {
        permit.settle(result.length);
        await new Promise<void>((resolve) => (end = resolve));
      },
    });
    expect(await limited('a')).toBe('four');
    await vi.waitFor(() => expect(end).toBeTypeOf('function'));
    expect([throttle.active, throttle.tokens]).toEqual([1, 96]);
    end();
    await vi.waitFor(() => expect(throttle.active).toBe(0));
  });

  test.each<[string, Options['settle']]>([
    [
      'throws',
      () => {
        throw new Error('broken');
      },
    ],
    ['rejects', () => Promise.reject(new Error('broken'))],
  ])('that %s does not affect the call, and warns', async (_what, settle) => {
    const { throttle, limited } = scene([], { settle });
    expect(await limited('a')).toBe('ok');
    await vi.waitFor(() => expect(throttle.active).toBe(0));
    expect(warnings.codes()).toEqual(['HEADGATE_SETTLE_FAILED']);
  });

  test('that never ends frees the slot when the signal aborts', async () => {
    const controller = new AbortController();
    const { throttle, limited } = scene([], { settle: () => new Promise(() => {}), signal: () => controller.signal });
    expect(await limited('a')).toBe('ok');
    expect(throttle.active).toBe(1);
    controller.abort();
    await vi.waitFor(() => expect(throttle.active).toBe(0));
  });

  test('is not called for a refusal or an error', async () => {
    const settle = vi.fn();
    await expect(scene([new Refused(1)], { settle, retries: 0 }).limited('a')).rejects.toThrow();
    await expect(scene([new Error('broken')], { settle }).limited('a')).rejects.toThrow();
    expect(settle).not.toHaveBeenCalled();
  });
});

describe('an abort', () => {
  test('ends the wait in the queue, and nothing is sent', async () => {
    const controller = new AbortController();
    const { throttle, limited, calls } = scene([], { signal: () => controller.signal });
    await throttle.acquire();
    const pending = limited('a');
    pending.catch(() => {});
    controller.abort(new Error('left'));
    await expect(pending).rejects.toThrow('left');
    expect([throttle.waiting, calls.length, throttle.tokens]).toEqual([0, 0, 99]);
  });

  test('in the instant of the grant wins: nothing is sent, and the token comes back', async () => {
    const controller = new AbortController();
    const { throttle, limited, calls } = scene([], { signal: () => controller.signal });
    const held = await throttle.acquire();
    const pending = limited('a');
    pending.catch(() => {});
    await Promise.resolve();
    held.release();
    controller.abort(new Error('left'));
    await expect(pending).rejects.toThrow('left');
    expect([throttle.active, calls.length, throttle.tokens]).toEqual([0, 0, 99]);
  });

  test('ends the wait for a cost that never comes', async () => {
    const controller = new AbortController();
    const { limited } = scene([], { signal: () => controller.signal, cost: () => new Promise(() => {}) });
    const pending = limited('a');
    controller.abort(new Error('left'));
    await expect(pending).rejects.toThrow('left');
  });
});

test('wait bounds the queue, and errors of the gate reject', async () => {
  const { throttle, limited } = scene([], { wait: 0 });
  await throttle.acquire();
  await expect(limited('a')).rejects.toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
  const full = new Throttle(1, 1, 1, { maxQueue: 0 });
  await full.acquire();
  await expect(throttled(full, () => 1)()).rejects.toBeInstanceOf(QueueFullError);
});

test.each<[unknown, unknown, unknown, string]>([
  [undefined, () => 1, {}, 'gate must be a Gate or a KeyedGate, received undefined'],
  [new Throttle(1), undefined, {}, 'send must be a function, received undefined'],
  [new Throttle(1), () => 1, null, 'options must be an object, received null'],
  [new Throttle(1), () => 1, { key: 'a' }, 'key must be undefined for a gate without keys, received "a"'],
  [new KeyedThrottle(1), () => 1, {}, 'key must be a key or a function for a keyed gate, received undefined'],
  [new Throttle(1), () => 1, { cost: -1 }, 'cost must be a finite number >= 0, received -1'],
  [new Throttle(1), () => 1, { retries: 0.5 }, 'retries must be an integer >= 0, received 0.5'],
  [new Throttle(1), () => 1, { settle: 1 }, 'settle must be a function, received 1'],
  [new Throttle(1), () => 1, { signal: 1 }, 'signal must be a function, received 1'],
])('throttled(%o, %o, %o) throws', (gate, send, options, message) => {
  expect(() => throttled(gate as Throttle, send as () => number, options as object)).toThrow(message);
});
