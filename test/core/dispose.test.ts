/** Disposal without `using`. */
import { expect, test } from 'vitest';
import { dispose } from '../../src/core/dispose.js';

test('an object without the method of `await using` causes no error', async () => {
  await expect(dispose({})).resolves.toBeUndefined();
});

test('the method of `await using` is called with the object as `this`, and awaited', async () => {
  const events: unknown[] = [];
  const resource = {
    async [Symbol.asyncDispose](this: unknown) {
      await Promise.resolve();
      events.push(this);
    },
  };
  await dispose(resource);
  expect(events).toEqual([resource]);
});
