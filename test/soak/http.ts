/**
 * HTTP: real servers with a gate in front of their handlers, and clients that behave as clients do: they keep
 * connections or do not, read slowly, hang up in the queue, while they are served and in the middle of a stream, or send
 * request upon request without waiting for an answer. Counted inside the handlers are never more than the gate allows,
 * and in the end all permits are back.
 */
import assert from 'node:assert/strict';
import http, { type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { KeyedThrottle, Throttle } from 'headgate';
import { Dice, HistoryFailed, newTally, type Part, sleep, type Tally, Trail, until, within } from './part.js';
import { type AnyOptions, type Handler, makers, type Page } from './sites.js';

const CLIENTS = 24;
const REQUESTS = 12;
/** Seconds that any one request may take. */
const PATIENCE = 30;

/** A server at work: what is inside, by key, and what went wrong. */
class Counter {
  readonly #most: number;
  readonly #inside: Map<string, number> = new Map();
  readonly #responses: WeakMap<ServerResponse, () => void> = new WeakMap();
  entered = 0;
  wrong: string | undefined;

  constructor(most: number) {
    this.#most = most;
  }

  /** Who has gone is not inside any more, though the handler may not know: heard before anybody else hears of it. */
  watch(server: Server): void {
    const pipelined = new WeakMap<object, ServerResponse[]>();
    server.on('connection', (socket) => {
      const responses: ServerResponse[] = [];
      pipelined.set(socket, responses);
      // A response whose turn has not come does not tell that its client has gone.
      socket.once('close', () => responses.forEach((response) => this.leave(response)));
    });
    server.prependListener('request', ({ socket }, response: ServerResponse) => {
      pipelined.get(socket)?.push(response);
      response.once('close', () => this.leave(response));
    });
  }

  enter(key: string, response: ServerResponse): void {
    // A permit can come when its client has just gone.
    if (response.destroyed || response.closed || response.req.socket.destroyed) return;
    this.entered++;
    const inside = (this.#inside.get(key) ?? 0) + 1;
    this.#inside.set(key, inside);
    if (inside > this.#most)
      this.wrong ??= `${inside} inside at a time, where ${this.#most} are allowed${key && ` for ${key}`}`;
    this.#responses.set(response, () => void this.#inside.set(key, (this.#inside.get(key) ?? 0) - 1));
  }

  leave(response: ServerResponse): void {
    this.#responses.get(response)?.();
    this.#responses.delete(response);
  }

  get inside(): number {
    return [...this.#inside.values()].reduce((sum, count) => sum + count, 0);
  }
}

/** What the paths ask for: a text after a while, a stream of chunks, a failure, or a server that hangs up. */
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
      if (pathname === '/fails') throw new Error('as asked for');
      if (pathname === '/drops') response.destroy();
      return 'done';
    } finally {
      counter.leave(response);
    }
  };

/** A path that takes a few milliseconds. */
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

/** How a request ended: with a status, or without. */
type End = number | 'hung up' | `broken${string}`;

function send(
  port: number,
  path: string,
  agent: http.Agent | false,
  hangUpAfter: number | undefined,
  slow: boolean,
  key: string,
): Promise<End> {
  return new Promise((resolve) => {
    const headers = key === '' ? {} : { 'x-key': key };
    const request = http.get({ host: '127.0.0.1', port, path, agent, headers });
    let end: End | undefined;
    let answer: http.IncomingMessage | undefined;
    const timer =
      hangUpAfter === undefined
        ? undefined
        : setTimeout(() => {
            end ??= 'hung up';
            request.destroy();
          }, hangUpAfter);
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
    // A slow reader may still have much to read when the connection has gone.
    request.on('close', () => {
      if (answer === undefined || answer.destroyed) over();
      else answer.once('close', over);
    });
  });
}

/** Requests one behind the other on one connection, none of which waits for the answer to the last; and then it goes. */
async function pipeline(port: number, paths: readonly string[], key: string, goesAfter: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.resume();
  const closed = new Promise<unknown>((resolve) => void socket.once('close', resolve));
  for (const path of paths)
    socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${key && `x-key: ${key}\r\n`}\r\n`);
  await sleep(goesAfter);
  socket.destroy();
  await closed;
}

async function playHttp(seed: number, tally: Tally, name?: string, clients: number = CLIENTS): Promise<void> {
  const dice = new Dice(seed);
  const trail = new Trail();
  const drawn = dice.pick(Object.keys(makers));
  const make = makers[name ?? drawn] as (typeof makers)[string];
  const concurrency = dice.pick([1, 2, 5, 8]);
  const capacity = dice.pick([Infinity, Infinity, 1_000, 5_000]);
  const wait = dice.pick([0, 0.02, 0.2, 10]);
  const maxQueue = dice.pick([Infinity, Infinity, 5]);
  const keys = dice.oneIn(3) ? ['ada', 'bob', 'cy'] : [''];
  const burst = capacity === Infinity ? undefined : 20;
  const gate = new Throttle(capacity, concurrency, 1, { burst, maxQueue });
  const keyed = new KeyedThrottle(capacity, concurrency, 1, { burst, maxQueue });
  const options: AnyOptions = keys.length > 1 ? { keyed, key: 'header:x-key', wait } : { gate, wait };
  trail.note(
    `${name ?? drawn}, ${concurrency} at a time, ${capacity} per second, wait ${wait}, maxQueue ${maxQueue}, keys ${keys.join()}`,
  );
  const counter = new Counter(concurrency);
  const server = await make(options, handlerOf(counter));
  counter.watch(server);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const agent = new http.Agent({ keepAlive: true, maxSockets: dice.pick([4, 16]) });
  const from = performance.now();
  let wrong: string | undefined;

  const client = async (own: Dice): Promise<void> => {
    for (let count = 0; count < REQUESTS && wrong === undefined && counter.wrong === undefined; count++) {
      const key = own.pick(keys);
      tally.operations++;
      if (own.oneIn(15)) {
        const paths = Array.from({ length: 2 + own.below(4) }, () => anyPath(own, key));
        const goesAfter = own.pick([0, 2, 10, 40]);
        trail.note(`${paths.length} requests on one connection, which goes after ${goesAfter} ms: ${paths.join(' ')}`);
        tally.aborts++;
        await within(PATIENCE, pipeline(port, paths, key, goesAfter), 'a pipeline');
        continue;
      }
      const path = anyPath(own, key);
      const hangUpAfter = own.oneIn(4) ? own.pick([0, 1, 3, 10]) : undefined;
      const end = await within(
        PATIENCE,
        send(port, path, own.oneIn(3) ? false : agent, hangUpAfter, own.oneIn(6), key),
        `an answer to ${path}`,
      );
      trail.note(`${path}${hangUpAfter === undefined ? '' : `, hangs up after ${hangUpAfter} ms`}: ${end}`);
      if (end === 429 || end === 503) tally.refusals++;
      else if (end === 'hung up') tally.aborts++;
      // With many clients on a kept connection, one may be reset by the server that answers another with a failure.
      const allowed: unknown[] = path.startsWith('/drops')
        ? [String(end).startsWith('broken') ? end : 500]
        : path.startsWith('/fails')
          ? [500]
          : [200];
      if (![429, 503, 'hung up', ...allowed].includes(end)) wrong ??= `${path} was answered by ${end}`;
    }
  };

  try {
    await Promise.all(Array.from({ length: clients }, () => client(dice.fork())));
    assert.equal(wrong, undefined);
    const throttles = (): Throttle[] => (keys.length > 1 ? keys.flatMap((key) => keyed.peek(key) ?? []) : [gate]);
    await until(
      'all permits are back',
      () => throttles().every((throttle) => throttle.active === 0 && throttle.waiting === 0),
      10,
    );
    assert.equal(counter.wrong, undefined);
    await until('nobody is inside', () => counter.inside === 0, 10);
    const seconds = (performance.now() - from) / 1_000;
    const most = keys.length * ((burst ?? Infinity) + capacity * seconds);
    assert.ok(counter.entered <= most, `${counter.entered} came in within ${seconds} s, where ${most} are allowed`);
    // What was sent by those who have gone may still come in.
    if (keys.length > 1 && capacity === Infinity) await until('no key is live', () => keyed.size === 0, 10);
  } catch (error) {
    throw new HistoryFailed((error as Error).message, trail.toString(), error);
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
  // What frameworks make when they are first used would look like a leak.
  async open() {
    for (const name of Object.keys(makers)) await playHttp(1, newTally(), name, 2);
    return [];
  },
  play: playHttp,
};
