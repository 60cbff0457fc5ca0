/** Promise 10, cost of running: listeners, timers, many waiters and the life of the process. */
import { execFile } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { existsSync } from 'node:fs';
import { type Permit, Throttle } from 'headgate';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { guarded } from '../support/processes.js';
import { setUp, SkewedClock, take } from '../support/support.js';

describe('trap 8: abort listeners are removed however a call ends [p-queue#235, p-map#75]', () => {
  type Way = (throttle: Throttle, signal: AbortSignal, stop: AbortController) => Promise<unknown>;
  const full = (throttle: Throttle): Permit => take(throttle, 10);
  const ways: Record<string, Way> = {
    'granted at once': (throttle, signal) => throttle.acquire(1, { signal }).then((permit) => permit.release()),
    'granted by a release': (throttle, signal) => {
      const holder = take(throttle);
      const granted = throttle.acquire(1, { signal, timeout: 60 });
      holder.release();
      return granted.then((permit) => permit.release());
    },
    'granted by the timer': (throttle, signal) => {
      full(throttle).release();
      return throttle.acquire(1, { signal, timeout: 60 }).then((permit) => permit.release());
    },
    aborted: (throttle, signal, stop) => {
      full(throttle);
      const gone = throttle.acquire(1, { signal, timeout: 60 });
      stop.abort();
      return gone;
    },
    'timed out': (throttle, signal) => {
      take(throttle);
      return throttle.acquire(1, { signal, timeout: 0.5 });
    },
    'refused for its timeout': (throttle, signal) => {
      full(throttle);
      return throttle.acquire(10, { signal, timeout: 0.5 });
    },
    'refused by a full queue': (throttle, signal) => {
      full(throttle);
      throttle.acquire(1).catch(() => {});
      return throttle.acquire(1, { signal, timeout: 60 }).finally(() => throttle.close());
    },
    closed: (throttle, signal) => {
      full(throttle);
      const gone = throttle.acquire(1, { signal, timeout: 60 });
      throttle.close();
      return gone;
    },
    'too large for new settings': (throttle, signal) => {
      full(throttle);
      const gone = throttle.acquire(10, { signal, timeout: 60 });
      throttle.configure({ capacity: 5 });
      return gone;
    },
    'run, done': (throttle, signal) => throttle.run(() => 1, 1, { signal }),
    'run after a wait, failed': (throttle, signal) => {
      full(throttle).release();
      return throttle.run(() => Promise.reject(new Error('no')), 1, { signal });
    },
    'map, done': (throttle, signal) => throttle.map(Array(25).fill(0), () => 1, { signal }),
    'map, failed': (throttle, signal) =>
      throttle.map(Array(25).fill(0), () => Promise.reject(new Error('no')), { signal }),
    'map of a value that is not iterable': (throttle, signal) => throttle.map(0 as never, () => 1, { signal }),
    'map, aborted': (throttle, signal, stop) => throttle.map(Array(25).fill(0), () => stop.abort(), { signal }),
  };

  test.each(Object.entries(ways))('%s', async (_, way) => {
    const { clock, throttle } = setUp(10, 1, 1, { maxQueue: 1 });
    const stop = new AbortController();
    const end = way(throttle, stop.signal, stop).catch(() => {});
    await clock.runAll();
    await end;
    expect({
      listeners: getEventListeners(stop.signal, 'abort').length,
      timers: clock.pending,
      waiting: throttle.waiting,
    }).toEqual({ listeners: 0, timers: 0, waiting: 0 });
  });

  test('10,000 waiters on one signal share one listener and reject in order without a warning', async () => {
    const warned = vi.fn();
    process.on('warning', warned);
    const { clock, throttle } = setUp(Infinity, 1);
    take(throttle);
    const stop = new AbortController();
    const order: number[] = [];
    const gone = Array.from({ length: 10_000 }, (_, index) =>
      throttle.acquire(1, { signal: stop.signal }).catch(() => void order.push(index)),
    );
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
    stop.abort();
    expect(throttle.waiting).toBe(0);
    await Promise.all(gone);
    await clock.advance(0);
    expect(order).toEqual(Array.from({ length: 10_000 }, (_, index) => index));
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
    process.off('warning', warned);
    expect(warned).not.toHaveBeenCalled();
  });

  test('the listener is removed with the last waiter on the signal', async () => {
    const { clock, throttle } = setUp(Infinity, 1);
    let holder = take(throttle);
    const stop = new AbortController();
    const waiters = Array.from({ length: 3 }, () => throttle.acquire(1, { signal: stop.signal }));
    for (const waiter of waiters) {
      expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
      holder.release();
      holder = await waiter;
    }
    await clock.advance(0);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
  });
});

describe('trap 22: 100,000 waiters', () => {
  const MANY = 100_000;

  test('all waiters share one timer, which is armed once, and are granted in order [aiolimiter#73]', async () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(MANY / 10, 0, 1, { clock });
    take(throttle, MANY / 10);
    const order: number[] = [];
    for (let index = 0; index < MANY; index++)
      throttle.acquire().then(
        () => order.push(index),
        () => {},
      );
    expect([throttle.waiting, clock.passing.pending, clock.delays.length]).toEqual([MANY, 1, 1]);
    // Timers of 0.1 s: each one grants in one pass every waiter whose tokens have refilled.
    clock.fires = (seconds) => Math.max(seconds, 0.1);
    clock.delays.length = 0;
    await clock.passing.advance(11);
    expect(order).toHaveLength(MANY);
    expect(order.every((value, index) => value === index)).toBe(true);
    expect(clock.delays.length).toBeLessThan(120);
    expect(clock.passing.pending).toBe(0);
  });

  test('an abort behind the head re-arms no timer', () => {
    const clock = new SkewedClock();
    const throttle = new Throttle(10, 0, 1, { clock });
    take(throttle, 10);
    throttle.acquire().catch(() => {});
    for (let index = 0; index < 1_000; index++) {
      const stop = new AbortController();
      throttle.acquire(1, { signal: stop.signal }).catch(() => {});
      stop.abort();
    }
    expect([throttle.waiting, clock.passing.pending, clock.delays.length]).toEqual([1, 1, 1]);
  });

  test('100,000 synchronous functions run one at a time without recursion', async () => {
    const { throttle } = setUp(Infinity, 1);
    const holder = take(throttle);
    let next = 0;
    let inOrder = true;
    const all = Array.from({ length: MANY }, (_, index) => throttle.run(() => void (inOrder &&= index === next++)));
    holder.release();
    await Promise.all(all);
    expect([next, inOrder, throttle.active]).toEqual([MANY, true, 0]);
  });

  test('one resume grants all of 100,000 waiters', async () => {
    const { throttle } = setUp(Infinity);
    throttle.pause();
    const all = Array.from({ length: MANY }, () => throttle.acquire());
    throttle.resume();
    expect([throttle.waiting, throttle.active]).toEqual([0, MANY]);
    await Promise.all(all);
  });

  const cancelling: Record<string, (index: number, count: number) => number> = {
    'from the back': (index, count) => count - 1 - index,
    'from the front': (index) => index,
    'from the middle': (index, count) => (index * 7_919) % count,
  };
  test.each(Object.entries(cancelling))('cancelling the waiters %s takes linear time', async (_, which) => {
    /** Milliseconds to cancel all waiters. */
    const time = async (count: number): Promise<number> => {
      const { throttle } = setUp(Infinity, 1);
      take(throttle);
      const stops = Array.from({ length: count }, () => new AbortController());
      const all = Promise.allSettled(stops.map((stop) => throttle.acquire(1, { signal: stop.signal })));
      const started = performance.now();
      for (let index = 0; index < count; index++) stops[which(index, count)]!.abort(0);
      const taken = performance.now() - started;
      expect(throttle.waiting).toBe(0);
      await all;
      return taken;
    };
    const small = Math.min(await time(3_000), await time(3_000), await time(3_000), await time(3_000));
    const large = Math.min(await time(30_000), await time(30_000));
    // Ten times as many waiters: quadratic time would be a hundred times as long.
    expect(large).toBeLessThan(40 * small);
  });
});

describe('trap 24: only a wait that ends in time keeps a process alive [p-queue#163]', () => {
  const dist = new URL('../../dist/index.js', import.meta.url);

  beforeAll(() => {
    if (!existsSync(dist)) throw new Error('dist is missing: run `npm run build` first');
  });

  /** Runs `body` in a child process. Returns its output, and the milliseconds that it lived after the last line. */
  const runProgram = (body: string): Promise<{ output: string; lived: number }> => {
    const program = `
      import { Throttle } from ${JSON.stringify(dist.href)};
      const print = (text) => process.stdout.write(text + ' ');
      ${body}
      const end = performance.now();
      process.on('exit', () => print('lived ' + (performance.now() - end)));`;
    return new Promise((resolve, reject) => {
      guarded(
        execFile(process.execPath, ['--input-type=module', '-e', program], { timeout: 20_000 }, (error, stdout) => {
          const [output = '', lived] = stdout.split('lived ');
          if (error) reject(error);
          else resolve({ output: output.trim(), lived: Number(lived) });
        }),
      );
    });
  };

  test.concurrent.each([
    ['a throttle without tokens', 'const t = new Throttle(1, 1, 3600); (await t.acquire()).release();'],
    ['a permit never released', 'const t = new Throttle(1, 1, 3600); await t.acquire();'],
    ['a pause without waiters', 'const t = new Throttle(1); t.pause(3600);'],
    [
      'a waiter that was aborted',
      `const t = new Throttle(1, 0, 3600); await t.acquire(); const s = new AbortController();
       t.acquire(1, { signal: s.signal, timeout: 7200 }).catch(() => {}); s.abort();`,
    ],
    [
      'a waiter that was closed',
      `const t = new Throttle(1, 0, 3600); await t.acquire();
       t.acquire(1, { timeout: 7200 }).catch(() => {}); t.close();`,
    ],
    [
      'a waiter that was granted',
      `const t = new Throttle(5, 1, 3600); const p = await t.acquire();
       const w = t.acquire(1, { timeout: 7200 }); p.release(); (await w).release();`,
    ],
    [
      'a waiter for a slot with a signal',
      `const t = new Throttle(1, 1, 3600); await t.acquire(0);
       t.acquire(1, { signal: new AbortController().signal }).catch(() => {});`,
    ],
    ['an endless pause with a waiter', 'const t = new Throttle(1); t.pause(); t.acquire().catch(() => {});'],
  ])('%s does not keep the process alive', async (_, body) => {
    const { output, lived } = await runProgram(body);
    expect(output).toBe('');
    expect(lived).toBeLessThan(3_000);
  });

  test.concurrent.each([
    [
      'for tokens',
      "const t = new Throttle(1, 0, 0.4); await t.acquire(); t.acquire().then(() => print('granted'));",
      'granted',
    ],
    ['for the end of a pause', "const t = new Throttle(1); t.pause(0.4); t.run(() => print('granted'));", 'granted'],
    [
      'for its deadline',
      `const t = new Throttle(1, 1); await t.acquire(0);
       t.acquire(0, { timeout: 0.4 }).catch((error) => print(error.code));`,
      'ERR_THROTTLE_TIMEOUT',
    ],
  ])('an acquire that waits %s keeps the process alive', async (_, body, expected) => {
    const { output, lived } = await runProgram(body);
    expect(output).toBe(expected);
    expect(lived).toBeGreaterThan(300);
  });
});
