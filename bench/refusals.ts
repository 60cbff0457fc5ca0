/**
 * The CPU time of a refusal by an HTTP adapter. The requests and the responses of Express are plain objects, so that
 * neither sockets nor the framework take part. The platform's own `Request` and `Response` are expensive, so their cost
 * is measured alone as well.
 */
// oxlint-disable no-await-in-loop -- one refusal after the other is measured
import { EventEmitter } from 'node:events';
import { KeyedThrottle, Throttle } from 'headgate';
import { express, type ExpressMiddleware, type ExpressRequest, type NodeResponse, web } from 'headgate/http';
import { cpuNanosecondsEach } from './measure.js';

const BATCH = 1_000;
/** Milliseconds. */
const EFFORT = { time: 1_000 };
/** Seconds: long enough that no token comes back during the measurement. */
const FOREVER = 1e9;
const URL_OF_REQUEST = 'http://localhost/reports?month=3';
const HEADERS = { host: 'localhost', 'user-agent': 'bench', accept: '*/*', 'x-user': 'ada' };

/** A gate that has spent its only token. */
function exhaustedGate(): Throttle {
  const gate = new Throttle(1, 0, FOREVER);
  gate.tryAcquire();
  return gate;
}

/** One gate for all requests. */
export const byExpressWithSharedGate = (): Promise<number> => ofExpress(express({ gate: exhaustedGate() }));

/** A gate per user, whom a function of the options names. */
export function byExpressWithKeyFunction(): Promise<number> {
  const keyed = new KeyedThrottle(1, 0, FOREVER);
  keyed.tryAcquire('ada');
  return ofExpress(express({ keyed, key: (request) => request.headers['x-user'] as string }));
}

function ofExpress(middleware: ExpressMiddleware<ExpressRequest, NodeResponse>): Promise<number> {
  const socket = Object.assign(new EventEmitter(), { remoteAddress: '192.0.2.1', destroyed: false });
  return cpuNanosecondsEach(BATCH, EFFORT, async () => {
    for (let i = 0; i < BATCH; i++) {
      const request = { method: 'GET', url: '/reports?month=3', headers: HEADERS, socket, ip: '192.0.2.1' };
      const status = await new Promise<number>((resolve, reject) =>
        middleware(request, new FakeResponse(socket, resolve), reject),
      );
      if (status !== 429) throw new Error(`a request was answered with ${status}`);
    }
  });
}

/** A response that keeps its header fields, and reports its status when it ends. */
class FakeResponse implements NodeResponse {
  statusCode = 200;
  headersSent = false;
  writableEnded = false;
  writableFinished = false;
  readonly socket: object;
  readonly #headers: Record<string, string | string[]> = {};
  readonly #onEnd: (status: number) => void;

  constructor(socket: object, onEnd: (status: number) => void) {
    this.socket = socket;
    this.#onEnd = onEnd;
  }

  setHeader(name: string, value: string | string[]): void {
    this.#headers[name] = value;
  }

  end(): void {
    this.headersSent = this.writableEnded = this.writableFinished = true;
    this.#onEnd(this.statusCode);
  }

  on(): void {}
}

export function byWeb(): Promise<number> {
  const serve = web(() => new Response(), { gate: exhaustedGate() });
  return cpuNanosecondsEach(BATCH, EFFORT, async () => {
    for (let i = 0; i < BATCH; i++) {
      const { status } = await serve(new Request(URL_OF_REQUEST, { headers: HEADERS }));
      if (status !== 429) throw new Error(`a request was answered with ${status}`);
    }
  });
}

/** The floor of {@link byWeb}: the same `Request` and the same `Response`, without a decision. */
export async function requestAndResponse(): Promise<number> {
  const serve = web(() => new Response(), { gate: exhaustedGate() });
  const refusal = await serve(new Request(URL_OF_REQUEST, { headers: HEADERS }));
  const headers = Object.fromEntries(refusal.headers);
  const body = await refusal.text();
  const respond = async (_request: Request): Promise<Response> => new Response(body, { status: 429, headers });
  return cpuNanosecondsEach(BATCH, EFFORT, async () => {
    for (let i = 0; i < BATCH; i++) await respond(new Request(URL_OF_REQUEST, { headers: HEADERS }));
  });
}
