/** The options `learn` and `skip` of the interceptor for undici, with the real package and a real server. */
import http from 'node:http';
import { Throttle } from 'headgate';
import { undiciThrottle, type UndiciThrottleOptions } from 'headgate/fetch';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Agent, type Dispatcher, request } from 'undici';
import { Latch, listen, stop, until } from '../support/http-client.js';
import { createLlm, levels, openaiHeaders } from './llm-gate.js';
import { expectNoWarning, recordWarnings } from './warnings.js';

const warnings = recordWarnings();

interface Reply {
  readonly status?: number;
  readonly headers?: Record<string, string>;
}

/** A gate for a language model in front of a server with these replies. */
async function setUp(
  replies: Reply[],
  options: UndiciThrottleOptions<string, 'tokens'>,
  beforeReply: (path: string) => Promise<void> | undefined = () => undefined,
): Promise<{ gate: Throttle<'tokens'>; send: (path?: string) => Promise<number>; paths: string[] }> {
  const paths: string[] = [];
  const server = http.createServer((req, res) => {
    paths.push(req.url ?? '');
    void Promise.resolve(beforeReply(req.url ?? '')).then(() => {
      const { status = 200, headers = {} } = replies.shift() ?? {};
      return res.writeHead(status, headers).end('body');
    });
  });
  onTestFinished(() => stop(server));
  const url = `http://127.0.0.1:${await listen(server)}`;
  const gate = createLlm();
  const dispatcher: Dispatcher = new Agent().compose(undiciThrottle(gate, { cost: { tokens: 10 }, ...options }));
  onTestFinished(() => dispatcher.destroy());
  const send = async (path = '/'): Promise<number> => {
    const { statusCode, body } = await request(url + path, { dispatcher });
    await body.dump();
    return statusCode;
  };
  return { gate, send, paths };
}

describe('learn', () => {
  test('lowers each rate to what the response reports, and never raises a level', async () => {
    const { gate, send } = await setUp(
      [{ headers: openaiHeaders(40, 700) }, { headers: openaiHeaders(5_000, 9_000) }],
      {
        learn: true,
      },
    );
    await send();
    expect(levels(gate)).toEqual([40, 700]);
    await send();
    expect(levels(gate)).toEqual([39, 690]);
    expectNoWarning(warnings);
  });

  test('learns from a refusal after its refund', async () => {
    const { gate, send } = await setUp([{ status: 429, headers: openaiHeaders(0, 50) }], { learn: true, retries: 0 });
    expect(await send()).toBe(429);
    expect(levels(gate)).toEqual([0, 50]);
  });

  test('calls a function with the status and the header fields', async () => {
    const { gate, send } = await setUp([{ headers: { 'x-left': '12' } }], {
      learn: ({ status, headers }) => (status === 200 ? { tokens: Number(headers.get('X-Left')) } : undefined),
    });
    await send();
    expect(levels(gate)).toEqual([99, 12]);
  });

  test('reports an error of the function once as a warning, and the request succeeds', async () => {
    const { send } = await setUp([], {
      learn: () => {
        throw new Error('no levels');
      },
    });
    expect([await send(), await send()]).toEqual([200, 200]);
    expect(warnings.codes()).toEqual(['HEADGATE_LEARN_FAILED']);
  });

  test('subtracts a later request that has no response yet', async () => {
    const [bothSent, firstReceived] = [new Latch(), new Latch()];
    const { gate, send } = await setUp([], { learn: () => 50 }, (path) => {
      if (path === '/first') return bothSent.opened;
      bothSent.open();
      return firstReceived.opened;
    });
    const first = send('/first');
    await until(() => levels(gate)[0] === 99);
    const second = send('/second');
    await first;
    expect(levels(gate)[0]).toBe(49);
    firstReceived.open();
    await second;
    expect(levels(gate)[0]).toBe(49);
  });

  test('subtracts no later request that has failed', async () => {
    const secondFailed = new Latch();
    const { gate, send } = await setUp(
      [{ headers: { 'x-broken': 'yes' } }],
      {
        learn: () => 50,
        refusal: ({ headers }) => (headers.get('x-broken') === 'yes' ? expect.fail('unreadable') : false),
      },
      (path) => (path === '/first' ? secondFailed.opened : undefined),
    );
    const first = send('/first');
    await until(() => levels(gate)[0] === 99);
    await expect(send('/second')).rejects.toThrow('unreadable');
    secondFailed.open();
    await first;
    expect(levels(gate)[0]).toBe(50);
  });
});

describe('skip', () => {
  test('a skipped request needs no permit, and passes while the gate is paused', async () => {
    const { gate, send, paths } = await setUp([], { skip: ({ path }) => path === '/health' });
    gate.pause();
    expect(await send('/health')).toBe(200);
    expect([paths, gate.waiting, levels(gate)]).toEqual([['/health'], 0, [100, 1_000]]);
  });

  test('the response to a skipped request pauses nothing', async () => {
    const { gate, send } = await setUp([{ status: 429, headers: { 'retry-after': '9' } }], { skip: () => true });
    expect([await send(), gate.pausedFor]).toEqual([429, 0]);
  });

  test.each([
    ['throws', () => expect.fail('skip failed'), 'skip failed'],
    ['returns a promise', async () => true, 'skip must be a function that returns a boolean, received object'],
  ])('a function that %s fails the request', async (_what, skip, message) => {
    const { gate, send, paths } = await setUp([], { skip: skip as never });
    await expect(send()).rejects.toThrow(message);
    expect([paths, gate.active, gate.tokens]).toEqual([[], 0, 100]);
  });

  test('an error of the dispatcher for a skipped request reaches its caller alone', () => {
    const onResponseError = vi.fn();
    const inner = (_options: never, _handler: never): boolean => {
      throw new TypeError('invalid handler');
    };
    const dispatch = undiciThrottle(new Throttle(1), { skip: () => true })(inner);
    expect(() => dispatch({} as never, { onResponseError } as never)).toThrow('invalid handler');
    expect(onResponseError).not.toHaveBeenCalled();
  });

  test('anything but a function is refused', () => {
    const options = { skip: true as never };
    expect(() => undiciThrottle(new Throttle(1), options)).toThrow('skip must be a function, received true');
  });
});
