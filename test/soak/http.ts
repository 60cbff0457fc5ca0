/**
 * HTTP: real servers with a gate in front of their handlers. Clients keep or close connections, read slowly,
 * disconnect in the queue, in the handler or in the middle of a stream, and pipeline requests. The handlers never run
 * more often at a time than the gate allows, and finally every permit is released.
 */
import assert from 'node:assert/strict';
import http, { type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { KeyedThrottle, Throttle } from 'headgate';
import { Dice, HistoryFailed, newTally, type Part, sleep, type Tally, StepLog, until, within } from './part.js';
import { type AnyOptions, type Handler, frameworkServers, type Page } from './framework-servers.js';

const CLIENTS = 24;
const REQUESTS = 12;
/** The limit for one request. */
const MAX_REPLY_SECONDS = 30;

/** Counts the running handlers of a server by key, and records the first failure. */
class Counter {
  readonly #limit: number;
  readonly #running: Map<string, number> = new Map();
  readonly #responses: WeakMap<ServerResponse, () => void> = new WeakMap();
  entered = 0;
  failure: string | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Stops counting a handler when its client disconnects. These listeners run before all other listeners. */
  watch(server: Server): void {
    const pipelined = new WeakMap<object, ServerResponse[]>();
    server.on('connection', (socket) => {
      const responses: ServerResponse[] = [];
      pipelined.set(socket, responses);
      // A pipelined response that is not its turn yet emits no event when its client disconnects.
      socket.once('close', () => responses.forEach((response) => this.leave(response)));
    });
    server.prependListener('request', ({ socket }, response: ServerResponse) => {
      pipelined.get(socket)?.push(response);
      response.once('close', () => this.leave(response));
    });
  }

  enter(key: string, response: ServerResponse): void {
    // A permit can be granted just after its client has disconnected.
    if (response.destroyed || response.closed || response.req.socket.destroyed) return;
    this.entered++;
    const running = (this.#running.get(key) ?? 0) + 1;
    this.#running.set(key, running);
    if (running > this.#limit)
      this.failure ??= `${running} handlers at a time, of ${this.#limit} allowed${key && ` for ${key}`}`;
    this.#responses.set(response, () => void this.#running.set(key, (this.#running.get(key) ?? 0) - 1));
  }

  leave(response: ServerResponse): void {
    this.#responses.get(response)?.();
    this.#responses.delete(response);
  }

  get running(): number {
    return [...this.#running.values()].reduce((sum, count) => sum + count, 0);
  }
}

/** Depending on the path: a text after some time, a stream of chunks, a failure, or a server that disconnects. */
const handlerOf =
  (counter: Counter): Handler =>
  async (path, response) => {
    const { pathname, searchParams } = new URL(path, 'http://localhost');
    counter.enter(searchParams.get('key') ?? '', response);
    const milliseconds = Number(searchParams.get('ms'));
    const chunks = Number(searchParams.get('chunks'));
    async function* stream(): AsyncGenerator<string> {
      try {
        for (let index = 0; index < chunks && !response.destroyed; index++) {
          yield 'x'.repeat(Number(searchParams.get('size')));
          if (milliseconds > 0) await sleep(milliseconds / chunks);
        }
      } finally {
        counter.leave(response);
      }
    }
    if (pathname === '/stream') return stream() satisfies Page;
    try {
      if (milliseconds > 0) await sleep(milliseconds);
      if (pathname === '/fails') throw new Error('requested failure');
      if (pathname === '/drops') response.destroy();
      return 'done';
    } finally {
      counter.leave(response);
    }
  };

/** A path whose handler takes a few milliseconds. */
function anyPath(dice: Dice, key: string): string {
  const ms = dice.pick([0, 0, 1, 5, 20]);
  const path = dice.pick(['/text', '/text', '/text', '/stream', '/stream', '/fails', '/drops']);
  const [chunks, size] = dice.pick([
    [3, 10],
    [3, 10],
    [10, 1_000],
    [10, 1_000],
    [8, 65_536],
  ] as const);
  return `${path}?ms=${ms}&chunks=${chunks}&size=${size}${key && `&key=${key}`}`;
}

/** The end of a request: with a status, or without a response. */
type End = number | 'disconnected' | `broken${string}`;

function send(
  port: number,
  path: string,
  agent: http.Agent | false,
  disconnectAfter: number | undefined,
  slow: boolean,
  key: string,
): Promise<End> {
  return new Promise((resolve) => {
    const headers = key === '' ? {} : { 'x-key': key };
    const request = http.get({ host: '127.0.0.1', port, path, agent, headers });
    let end: End | undefined;
    let answer: http.IncomingMessage | undefined;
    const timer =
      disconnectAfter === undefined
        ? undefined
        : setTimeout(() => {
            end ??= 'disconnected';
            request.destroy();
          }, disconnectAfter);
    request.on('error', (error) => void (end ??= `broken: ${error.message}`));
    request.on('response', (response) => {
      answer = response;
      const {
        statusCode = 0,
        headers: { 'retry-after': retryAfter },
      } = response;
      response.on('error', (error) => void (end ??= `broken in the middle: ${error.message}`));
      response.on('end', () => {
        end ??= (statusCode === 429 || statusCode === 503) && !/^[1-9]\d*$/.test(retryAfter ?? '') ? 0 : statusCode;
      });
      if (!slow) response.resume();
      else {
        response.on('data', () => {
          response.pause();
          setTimeout(() => response.resume(), 2);
        });
      }
    });
    const over = (): void => {
      clearTimeout(timer);
      resolve(end ?? 'broken');
    };
    // A slow client may still read after the connection has closed.
    request.on('close', () => {
      if (answer === undefined || answer.destroyed) over();
      else answer.once('close', over);
    });
  });
}

/** Pipelines requests on one connection, and closes the connection after `closeAfter` milliseconds. */
async function pipeline(port: number, paths: readonly string[], key: string, closeAfter: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  const closed = new Promise<unknown>((resolve) => void socket.once('close', resolve));
  for (const path of paths)
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${key && `x-key: ${key}\r\n`}\r\n`);
  await sleep(closeAfter);
  socket.destroy();
  await closed;
}

async function playHttp(seed: number, tally: Tally, name?: string, clients: number = CLIENTS): Promise<void> {
  const dice = new Dice(seed);
  const steps = new StepLog();
  const chosen = dice.pick(Object.keys(frameworkServers));
  const createServer = frameworkServers[name ?? chosen] as (typeof frameworkServers)[string];
  const concurrency = dice.pick([1, 2, 5, 8]);
  const capacity = dice.pick([Infinity, Infinity, 1_000, 5_000]);
  const wait = dice.pick([0, 0.02, 0.2, 10]);
  const maxQueue = dice.pick([Infinity, Infinity, 5]);
  const keys = dice.oneIn(3) ? ['ada', 'bob', 'cy'] : [''];
  const burst = capacity === Infinity ? undefined : 20;
  const gate = new Throttle(capacity, concurrency, 1, { burst, maxQueue });
  const keyed = new KeyedThrottle(capacity, concurrency, 1, { burst, maxQueue });
  const options: AnyOptions = keys.length > 1 ? { keyed, key: 'header:x-key', wait } : { gate, wait };
  steps.note(
    `${name ?? chosen}, ${concurrency} at a time, ${capacity} per second, wait ${wait}, ` +
      `maxQueue ${maxQueue}, keys ${keys.join()}`,
  );
  const counter = new Counter(concurrency);
  const server = await createServer(options, handlerOf(counter));
  counter.watch(server);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const agent = new http.Agent({ keepAlive: true, maxSockets: dice.pick([4, 16]) });
  const from = performance.now();
  let failure: string | undefined;

  const client = async (own: Dice): Promise<void> => {
    for (let count = 0; count < REQUESTS && failure === undefined && counter.failure === undefined; count++) {
      const key = own.pick(keys);
      tally.operations++;
      if (own.oneIn(15)) {
        const paths = Array.from({ length: 2 + own.below(4) }, () => anyPath(own, key));
        const closeAfter = own.pick([0, 2, 10, 40]);
        steps.note(`${paths.length} pipelined requests, closed after ${closeAfter} ms: ${paths.join(' ')}`);
        tally.aborts++;
        await within(MAX_REPLY_SECONDS, pipeline(port, paths, key, closeAfter), 'a pipeline');
        continue;
      }
      const path = anyPath(own, key);
      const disconnectAfter = own.oneIn(4) ? own.pick([0, 1, 3, 10]) : undefined;
      const end = await within(
        MAX_REPLY_SECONDS,
        send(port, path, own.oneIn(3) ? false : agent, disconnectAfter, own.oneIn(6), key),
        `a response to ${path}`,
      );
      steps.note(`${path}${disconnectAfter === undefined ? '' : `, disconnects after ${disconnectAfter} ms`}: ${end}`);
      if (end === 429 || end === 503) tally.refusals++;
      else if (end === 'disconnected') tally.aborts++;
      // On a shared keep-alive agent, a failed response may reset the connection of another request.
      const allowed: unknown[] = path.startsWith('/drops')
        ? [String(end).startsWith('broken') ? end : 500]
        : path.startsWith('/fails')
          ? [500]
          : [200];
      if (![429, 503, 'disconnected', ...allowed].includes(end)) failure ??= `${path} ended with ${end}`;
    }
  };

  try {
    await Promise.all(Array.from({ length: clients }, () => client(dice.fork())));
    assert.equal(failure, undefined);
    const throttles = (): Throttle[] => (keys.length > 1 ? keys.flatMap((key) => keyed.peek(key) ?? []) : [gate]);
    await until(
      'all permits are released',
      () => throttles().every((throttle) => throttle.active === 0 && throttle.waiting === 0),
      10,
    );
    assert.equal(counter.failure, undefined);
    await until('no handler runs', () => counter.running === 0, 10);
    const seconds = (performance.now() - from) / 1_000;
    const most = keys.length * ((burst ?? Infinity) + capacity * seconds);
    assert.ok(counter.entered <= most, `${counter.entered} granted within ${seconds} s, of ${most} allowed`);
    // Requests of disconnected clients may still arrive.
    if (keys.length > 1 && capacity === Infinity) await until('no key is live', () => keyed.size === 0, 10);
  } catch (error) {
    throw new HistoryFailed((error as Error).message, steps.toString(), error);
  } finally {
    tally.grants += counter.entered;
    agent.destroy();
    const closed = new Promise((resolve) => void server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

export const overHttp: Part = {
  name: 'http',
  exact: false,
  weight: 3,
  // Frameworks allocate on first use, which would look like a leak.
  async open() {
    for (const name of Object.keys(frameworkServers)) await playHttp(1, newTally(), name, 2);
    return [];
  },
  play: playHttp,
};
