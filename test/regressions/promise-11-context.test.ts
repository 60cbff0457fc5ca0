/** Promise 11, context: AsyncLocalStorage. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Throttle } from 'headgate';
import { describe, expect, test, vi } from 'vitest';
import { setUp, take } from '../support/support.js';

describe('trap 25: AsyncLocalStorage has the context of the caller [p-queue#200, bottleneck]', () => {
  const storage = new AsyncLocalStorage<string>();
  const here = (): string | undefined => storage.getStore();

  type Use = (throttle: Throttle) => Promise<string | undefined>;
  const uses: Record<string, Use> = {
    'inside run': (throttle) => throttle.run(here),
    'inside run, after an await': (throttle) =>
      throttle.run(async () => {
        await null;
        return here();
      }),
    'after run': (throttle) => throttle.run(() => {}).then(here),
    'inside wrap': (throttle) => throttle.wrap(here)(),
    'inside map': async (throttle) => (await throttle.map([0], here))[0],
    'inside a later item of map': async (throttle) => (await throttle.map([0, 1, 2], here))[2],
    'after acquire': async (throttle) => {
      using _ = await throttle.acquire();
      return here();
    },
    'in the then of acquire': (throttle) =>
      throttle.acquire().then((permit) => {
        permit.release();
        return here();
      }),
    'after a rejected acquire': (throttle) =>
      throttle.acquire(1, { timeout: 0 }).then((permit) => {
        permit.release();
        return here();
      }, here),
  };

  const openings: Record<string, (throttle: Throttle) => () => void> = {
    'at once': () => () => {},
    'when another context releases': (throttle) => {
      const holder = take(throttle);
      return () => holder.release();
    },
    'when another context resumes': (throttle) => {
      throttle.pause();
      return () => throttle.resume();
    },
    'when another context configures': (throttle) => {
      take(throttle, 0);
      return () => throttle.configure({ concurrency: 2 });
    },
    'by the timer': (throttle) => {
      take(throttle, 10).release();
      return () => {};
    },
  };

  test('run starts its function after it has returned, granted at once or by a release', async () => {
    const { throttle } = setUp(10, 1);
    const work = vi.fn();
    const first = throttle.run(work);
    expect(work).not.toHaveBeenCalled();
    await first;
    const holder = take(throttle);
    const second = throttle.run(work);
    holder.release();
    expect(work).toHaveBeenCalledOnce();
    await second;
    expect(work).toHaveBeenCalledTimes(2);
  });

  for (const [where, use] of Object.entries(uses)) {
    test.each(Object.entries(openings))(`${where}, granted %s`, async (_, opening) => {
      const { clock, throttle } = setUp(10, 1);
      const open = storage.run('opener', () => opening(throttle));
      const seen = ['a', 'b'].map((name) => storage.run(name, () => use(throttle)));
      storage.run('opener', open);
      await storage.run('clock', () => clock.runAll());
      expect(await Promise.all(seen)).toEqual(['a', 'b']);
    });
  }
});
