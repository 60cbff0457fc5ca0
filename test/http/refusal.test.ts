/** The error of a refusal on platforms with an unusual `Error`, and the state of a response. */
import { Throttle, type ThrottleError } from 'headgate';
import { RefusalError } from 'headgate/http';
import { expect, test } from 'vitest';
import { isSent, type NodeResponse } from '../../src/http/platform/node-response.js';

const errorOfGate = async (): Promise<ThrottleError> => {
  const throttle = new Throttle(1, 0, 60);
  throttle.tryAcquire();
  return throttle.acquire(1, { timeout: 0 }).then(
    () => expect.fail('it was granted'),
    (error: unknown) => error as ThrottleError,
  );
};

test('a refusal is created on a platform without `Error.stackTraceLimit`', async () => {
  const error = await errorOfGate();
  const limit = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit') as PropertyDescriptor;
  delete (Error as { stackTraceLimit?: number }).stackTraceLimit;
  try {
    const refusal = new RefusalError({ status: 429, retryAfter: 60, error }, { 'retry-after': '60' });
    expect(refusal).toMatchObject({ status: 429, retryAfter: 60, error, code: 'ERR_THROTTLE_TIMEOUT' });
    expect('stackTraceLimit' in Error).toBe(false);
  } finally {
    Object.defineProperty(Error, 'stackTraceLimit', limit);
  }
});

test.each([
  [{ writableFinished: true, writableEnded: true }, true],
  [{ writableFinished: false, writableEnded: true }, false],
  // HTTP/2 has only `writableEnded`.
  [{ writableEnded: true }, true],
  [{ writableEnded: false }, false],
])('a closed response %j was sent completely: %s', (response, sent) => {
  expect(isSent(response as NodeResponse)).toBe(sent);
});
