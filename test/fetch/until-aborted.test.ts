/** Waits that end as soon as a signal aborts. */
import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { untilAborted } from '../../src/fetch/until-aborted.js';

test('a result after the abort without a receiver is dropped', async () => {
  const ending = new AbortController();
  let finish!: (result: string) => void;
  const waiting = untilAborted(ending.signal, () => new Promise<string>((resolve) => (finish = resolve)));
  const reason = new Error('stop');
  ending.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  finish('too late');
  await Promise.resolve();
});

test('a result after the abort goes to its receiver', async () => {
  const ending = new AbortController();
  let finish!: (result: string) => void;
  const late: string[] = [];
  const waiting = untilAborted(
    ending.signal,
    () => new Promise<string>((resolve) => (finish = resolve)),
    (result) => void late.push(result),
  );
  ending.abort(new Error('stop'));
  await expect(waiting).rejects.toThrow('stop');
  finish('late');
  await Promise.resolve();
  expect(late).toEqual(['late']);
});

test('without a signal, the result passes through', async () => {
  expect(await untilAborted(undefined, () => 'result')).toBe('result');
});

test('the signal has no listener after a result or an error', async () => {
  const { signal } = new AbortController();
  expect(await untilAborted(signal, () => 'result')).toBe('result');
  await expect(untilAborted(signal, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});
