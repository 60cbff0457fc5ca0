/** Promise 11. `run` starts its function asynchronously, in the async context of its caller. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { errorOf, take, type Suite } from './suite.js';

export function context({ section, withGate }: Suite): void {
  section('promise 11: context', () => {
    test(
      'run starts its function after run has returned, even on a free gate',
      withGate({}, async ({ gate }) => {
        let started = false;
        const done = gate.run(() => (started = true));
        expect(started).toBe(false);
        expect(await done).toBe(true);
      }),
    );

    test(
      'run calls its function in the async context of its caller, whichever context releases',
      withGate({ concurrency: 1 }, async ({ gate, settled }) => {
        const storage = new AsyncLocalStorage<string>();
        const here = (): string | undefined => storage.getStore();
        expect(await storage.run('free', () => gate.run(here))).toBe('free');
        const holder = await storage.run('holder', () => take(gate));
        const seen = [
          storage.run('a', () => gate.run(here)),
          storage.run('b', () =>
            gate.run(async () => {
              await null;
              return here();
            }),
          ),
          storage.run('c', () =>
            gate.acquire().then((permit) => {
              permit.release();
              return here();
            }),
          ),
        ];
        await settled();
        storage.run('releaser', () => holder.release());
        expect(await Promise.all(seen)).toEqual(['a', 'b', 'c']);
      }),
    );

    test(
      'run passes results and rejections through unchanged',
      withGate({ concurrency: 1 }, async ({ gate }) => {
        const result = { some: 'object' };
        const error = new Error('boom');
        expect(await gate.run(() => result)).toBe(result);
        expect(await gate.run(async () => result)).toBe(result);
        expect(await gate.run(() => undefined)).toBeUndefined();
        expect(
          await errorOf(() =>
            gate.run(() => {
              throw error;
            }),
          ),
        ).toBe(error);
        expect(await errorOf(() => gate.run(() => Promise.reject(error)))).toBe(error);
        // oxlint-disable-next-line typescript/prefer-promise-reject-errors
        expect(await errorOf(() => gate.run(() => Promise.reject('no error at all')))).toBe('no error at all');
        const foreign = new ThrottleTimeoutError('of another gate');
        expect(await errorOf(() => gate.run(() => Promise.reject(foreign)))).toBe(foreign);
      }),
    );
  });
}
