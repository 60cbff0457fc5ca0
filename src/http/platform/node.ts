/**
 * What Node tells of a request and its response, be it HTTP/1 or HTTP/2, of `node:http` or of a framework upon it.
 */

/** The parts of `http.IncomingMessage` that matter here. */
export interface NodeRequest {
  /** Such as `GET`. */
  readonly method?: string | undefined;
  /** The path and the query, as the client sent them. */
  readonly url?: string | undefined;
  /** The header fields, by their names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The connection: `remoteAddress` is the client's, or a proxy's; `destroyed` when it is over. */
  readonly socket: NodeEmitter & { readonly remoteAddress?: string | undefined; readonly destroyed: boolean };
}

/** The parts of `http.ServerResponse` that matter here. */
export interface NodeResponse extends NodeEmitter {
  /** The status. */
  statusCode: number;
  /** Whether the headers are on their way. */
  readonly headersSent: boolean;
  /** Whether `end` was called. */
  readonly writableEnded?: boolean | undefined;
  /** Not there in HTTP/2. */
  readonly writableFinished?: boolean | undefined;
  /** `null` while responses before it keep the socket busy. */
  readonly socket: object | null | undefined;
  /** Sets a header field. */
  setHeader(name: string, value: string | string[]): unknown;
  /** Sends the rest, and ends the response. */
  end(body?: string | Uint8Array): unknown;
}

/** What calls back when it is over. */
interface NodeEmitter {
  /** Calls `listener` when it closes, or when all was handed over to the system. */
  on(event: 'close' | 'finish', listener: () => void): unknown;
}

/** The objects that stand for a request, whichever framework it runs in. */
export function carriersOf(req: NodeRequest, framework?: object): readonly object[] {
  return framework === undefined ? [req] : [req, framework];
}

/** Whether the response was sent, or nobody is there any more to send it to. */
export function isOver(req: NodeRequest, res: NodeResponse): boolean {
  return res.writableFinished === true || req.socket.destroyed;
}

/** Of a response that is over: whether all of it was sent. HTTP/2 says only whether the handler has ended it. */
export function isSent(res: NodeResponse): boolean {
  return (res.writableFinished ?? res.writableEnded) === true;
}

/** Calls `end` when the response was sent or the client has gone: at least once. It cannot be taken back. */
export function whenOver(res: NodeResponse, end: () => void): undefined {
  res.on('close', end);
  // Where no server is behind it, as in a cloud function, a response that was sent does not close.
  res.on('finish', end);
}

/**
 * Calls `ended` when the handler has ended the response, at least once: by `end`, by `destroy`, or by a stream that it
 * pipes into it and that has ended or was destroyed. Called once the client has gone: then no event says so any more.
 * Middleware that wraps `end` itself, before or after, is none the worse for it.
 */
export function whenEnded(res: NodeResponse, ended: () => void): void {
  if (res.writableEnded === true) return ended();
  const response = res as unknown as Record<'end' | 'destroy', ((...args: unknown[]) => unknown) | undefined> & {
    on(event: 'unpipe', listener: (source: Source) => void): unknown;
  };
  for (const name of ['end', 'destroy'] as const) {
    const original = response[name];
    response[name] = function (this: unknown, ...args) {
      try {
        return original?.apply(this, args);
      } finally {
        ended();
      }
    };
  }
  // A pipe into a closed response is taken apart: nobody calls `end` then.
  response.on('unpipe', (source) => {
    if (source.destroyed === true || source.readableEnded === true) return ended();
    source.on('close', ended);
    source.on('end', ended);
  });
}

/** What can be piped into a response. */
interface Source {
  readonly destroyed?: boolean;
  readonly readableEnded?: boolean;
  on(event: 'close' | 'end', listener: () => void): unknown;
}

/** What to call when a socket closes. One listener serves all its requests: more than ten would look like a leak. */
const pipelined = new WeakMap<object, Set<() => void>>();

/**
 * Waits for the turn of a response on its socket: HTTP/1 clients may send many requests at once (pipelining), and their
 * responses go out one after the other. A request that held a permit while it waits for its turn would let one slow
 * response before it hold the permits of all. Resolves as well when the client has gone.
 *
 * @returns `undefined` where it is the response's turn already.
 */
export function turnOf({ socket }: NodeRequest, res: NodeResponse): Promise<void> | undefined {
  // Some runtimes that imitate Node know no sockets of responses: there, the socket is never found busy.
  const { _httpMessage: current } = socket as { _httpMessage?: unknown };
  if (res.socket !== null || !current || current === res) return undefined;
  return new Promise((resolve) => {
    const known = pipelined.get(socket);
    const ends = known ?? new Set();
    if (known === undefined) {
      pipelined.set(socket, ends);
      socket.on('close', () => ends.forEach((each) => each()));
    }
    const turn = (): void => {
      ends.delete(turn);
      resolve();
    };
    ends.add(turn);
    (res as unknown as { on(event: 'socket', listener: () => void): unknown }).on('socket', turn);
  });
}

/** A property of `object`, its class's getters included; of any object whatever, nothing: that can stand for nobody. */
export function propertyOf(object: unknown, name: string): unknown {
  return Object(object) !== object || name in Object.prototype ? undefined : (object as Record<string, unknown>)[name];
}
