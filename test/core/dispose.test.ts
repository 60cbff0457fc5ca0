/** Disposal without `using`. */
import { expect, test } from 'vitest';
import { addDisposal, dispose } from '../../src/core/dispose.js';

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

test('the added method is a method of its class: replaceable, and not enumerable', () => {
  const prototype: { [Symbol.dispose]?: () => void } = {};
  const method = (): void => {};
  addDisposal(prototype, 'dispose', method);
  expect(Object.getOwnPropertyDescriptor(prototype, Symbol.dispose)).toEqual({
    value: method,
    writable: true,
    configurable: true,
    enumerable: false,
  });
});

test('a method that a program has replaced stays', () => {
  const own = (): void => {};
  const prototype = { [Symbol.dispose]: own };
  addDisposal(prototype, 'dispose', () => {});
  expect(prototype[Symbol.dispose]).toBe(own);
});
