/**
 * A local server that behaves like the real APIs: OpenAI's chat completions, Anthropic's messages, GitHub's REST API,
 * and a plain API with the fields of the IETF draft. The server counts requests and tokens in a rolling window of its
 * own, limits the requests at a time, and refuses in the shape of each API. It shares no code with headgate.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { apis, type Call, type RequestBody } from './apis.js';

export interface Limits {
  /** Requests per period. */
  readonly requests: number;
  /** Tokens per period. Default: no limit. */
  readonly tokens?: number;
  /** Seconds. */
  readonly period: number;
  /** Requests at a time. Default: no limit. */
  readonly slots?: number;
  /** The clock of the window, in seconds. */
  readonly now: () => number;
}

/** A request that the server admitted. */
interface Admitted {
  readonly at: number;
  /** The estimate of the request until the answer is complete, then the true number. */
  tokens: number;
}

export class Upstream {
  readonly limits: Limits;
  /** The instants of all requests that arrived. */
  readonly arrivals: number[] = [];
  /** How many requests the server has refused. */
  refused = 0;
  /** Requests that the server works on now, and the most at one instant. */
  active = 0;
  mostActive = 0;
  /** How many of the next requests the server refuses whatever its window says, and the wait that it states. */
  refusals: { count: number; seconds: number } = { count: 0, seconds: 0 };
  /** Where an answer stops until the client gives up: before its headers, or in the middle of its stream. */
  stallsAt: 'headers' | 'stream' | undefined;
  /** The true number of tokens of an answer, by the number of the request. */
  tokensOf: (request: number) => number = () => 30;
  #window: Admitted[] = [];
  readonly #server: Server;

  private constructor(limits: Limits) {
    this.limits = limits;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(limits: Limits): Promise<Upstream> {
    const upstream = new Upstream(limits);
    upstream.#server.listen(0, '127.0.0.1');
    await once(upstream.#server, 'listening');
    return upstream;
  }

  /** The address without a slash at the end. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const body = await read(request);
    const api = apis.find(({ path }) => path.test(request.url ?? ''));
    if (api === undefined) return void response.writeHead(404).end(`no API at ${request.method} ${request.url}`);
    const now = this.limits.now();
    const number = this.arrivals.push(now) - 1;
    const estimate = api.estimate(body);
    /** The window is described at the arrival of the request. */
    const describe = (): Call => ({ ...this.#state(now), number, body, tokens: this.tokensOf(number) });
    const wait = this.#waitFor(now, estimate);
    if (wait > 0) {
      this.refused++;
      const { status, headers, answer } = api.refuse(describe(), wait);
      return void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(answer);
    }
    const admitted: Admitted = { at: now, tokens: estimate };
    this.#window.push(admitted);
    const call = describe();
    this.mostActive = Math.max(this.mostActive, ++this.active);
    let isActive = true;
    const finish = (): void => {
      if (isActive) this.active--;
      isActive = false;
    };
    response.on('close', finish);
    // Requests of one instant overlap.
    await sleep(5);
    if (this.stallsAt === 'headers') return;
    const isStreamed = body.stream === true || /[?&]stream/.test(request.url ?? '');
    response.writeHead(200, {
      'content-type': isStreamed ? 'text/event-stream' : 'application/json; charset=utf-8',
      ...api.headers(call),
    });
    const complete = (text: string): void => {
      // The slot is free before the client can read the last byte.
      admitted.tokens = this.tokensOf(number);
      finish();
      response.end(text);
    };
    if (!isStreamed) return complete(api.answer(call));
    const events = api.stream(call);
    for (const [index, event] of events.entries()) {
      if (index === events.length - 1) complete(event);
      else response.write(event);
      if (this.stallsAt === 'stream' && index === Math.min(3, events.length - 2)) return;
      await new Promise((resolve) => void setImmediate(resolve));
    }
  }

  /** The seconds until the server admits a request, 0 for now. */
  #waitFor(now: number, estimate: number): number {
    if (this.refusals.count > 0) {
      this.refusals.count--;
      return this.refusals.seconds;
    }
    const { slots = Infinity } = this.limits;
    const { remainingRequests, remainingTokens, reset } = this.#state(now);
    if (remainingRequests < 1 || remainingTokens < estimate) return Math.max(reset, 0.001);
    return this.active < slots ? 0 : 0.1;
  }

  /** What is left of the window, and the seconds until its oldest request leaves it. */
  #state(now: number): Pick<Call, 'limits' | 'remainingRequests' | 'remainingTokens' | 'reset'> {
    const { requests, tokens = Infinity, period } = this.limits;
    // The tolerance covers rounding.
    this.#window = this.#window.filter(({ at }) => at + period > now + 1e-9);
    return {
      limits: this.limits,
      remainingRequests: requests - this.#window.length,
      remainingTokens: tokens - this.#window.reduce((sum, each) => sum + each.tokens, 0),
      reset: (this.#window[0]?.at ?? now - period) + period - now,
    };
  }
}

async function read(request: IncomingMessage): Promise<RequestBody> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length === 0 ? {} : (JSON.parse(Buffer.concat(chunks).toString()) as RequestBody);
}
