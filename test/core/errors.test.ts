/** The errors of gates, and the functions that recognise them. */
import { runInNewContext } from 'node:vm';
import { describe, expect, test, vi } from 'vitest';
import {
  isQueueFullError,
  isRangeError,
  isServerBusyError,
  isThrottleError,
  isTimeoutError,
  PermitExpiredError,
  QueueClearedError,
  QueueFullError,
  ServerBusyError,
  ThrottleClosedError,
  ThrottleError,
  ThrottleTimeoutError,
} from '../../src/core/errors.js';

test.each([
  [new ThrottleError('ERR_CUSTOM', 'no'), 'ThrottleError'],
  [new ThrottleTimeoutError('late'), 'ThrottleTimeoutError'],
  [new ServerBusyError(), 'ServerBusyError'],
  [new QueueFullError('full'), 'QueueFullError'],
  [new ThrottleClosedError('closed'), 'ThrottleClosedError'],
])('%s has the name of its class', (error, name) => {
  expect(error.name).toBe(name);
});

describe('each function recognises its errors and no other value', () => {
  const functions = { isThrottleError, isTimeoutError, isServerBusyError, isQueueFullError, isRangeError };
  test.each<[unknown, (keyof typeof functions)[]]>([
    [new ThrottleError('ERR_CUSTOM', 'no'), ['isThrottleError']],
    [new ThrottleTimeoutError('late'), ['isThrottleError', 'isTimeoutError']],
    [new ServerBusyError(), ['isThrottleError', 'isTimeoutError', 'isServerBusyError']],
    [new QueueFullError('full'), ['isThrottleError', 'isQueueFullError']],
    [new ThrottleClosedError('closed'), ['isThrottleError']],
    [new RangeError('no'), ['isRangeError']],
    [runInNewContext('new RangeError("no")'), ['isRangeError']],
    [new TypeError('no'), []],
    [Object.assign(new Error('no'), { code: 'ERR_THROTTLE_TIMEOUT', status: 503 }), []],
    [Object.assign(new Error('no'), { code: 'ERR_THROTTLE_QUEUE_FULL' }), []],
    [Object.assign(new ThrottleError('ERR_CUSTOM', 'no'), { status: 503 }), ['isThrottleError']],
    ['RangeError', []],
    [null, []],
    [undefined, []],
  ])('%s', (error, names) => {
    const recognising = Object.entries(functions).filter(([, recognises]) => recognises(error));
    expect(recognising.map(([name]) => name)).toEqual(names);
  });

  test('also the errors of another copy of the package', async () => {
    vi.resetModules();
    const copy = await import('../../src/core/errors.js');
    expect([isThrottleError, isTimeoutError, isServerBusyError].map((is) => is(new copy.ServerBusyError()))).toEqual([
      true,
      true,
      true,
    ]);
    expect(copy.isTimeoutError(new ThrottleTimeoutError('late'))).toBe(true);
  });
});

test.each([new QueueClearedError('cleared'), new PermitExpiredError('expired'), new ServerBusyError()])(
  'the name of %s can be changed and removed, as on a plain Error',
  (error) => {
    const { name } = error;
    for (const next of ['Renamed', 'Again']) {
      error.name = next;
      expect([error.name, Object.keys(error).includes('name')]).toEqual([next, false]);
    }
    expect(Reflect.deleteProperty(error, 'name')).toBe(true);
    expect(error.name).toBe(name);
  },
);

test('the message of a ServerBusyError is the text of the response', () => {
  expect(new ServerBusyError().message).toBe('Server busy, please retry later');
});

test('the data of an error has `retryAfter` only if the time is known', () => {
  expect(Object.keys(new ThrottleTimeoutError('late', { retryAfter: 2 }).toJSON())).toContain('retryAfter');
  expect(Object.keys(new ThrottleTimeoutError('late').toJSON())).not.toContain('retryAfter');
});
