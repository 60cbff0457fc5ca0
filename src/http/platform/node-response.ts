/** Node's requests and responses, over HTTP/1 or HTTP/2, from `node:http` or from a framework on top of it. */

/** The used part of `http.IncomingMessage`. */
export interface NodeRequest {
  /** The method, such as `GET`. */
  readonly method?: string | undefined;
  /** The path and the query, as the client sent them. */
  readonly url?: string | undefined;
  /** The header fields, by their names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The connection. `remoteAddress` is the client's address, or a proxy's. `destroyed` is true when it is closed. */
  readonly socket: NodeEmitter & { readonly remoteAddress?: string | undefined; readonly destroyed: boolean };
}

/** The used part of `http.ServerResponse`. */
export interface NodeResponse extends NodeEmitter {
  /** The HTTP status. */
  statusCode: number;
  /** Whether the header was sent. */
  readonly headersSent: boolean;
  /** Whether `end` was called. */
  readonly writableEnded?: boolean | undefined;
  /** Whether all of the response was passed to the system. Absent in HTTP/2. */
  readonly writableFinished?: boolean | undefined;
  /** `null` while earlier responses occupy the socket. */
  readonly socket: object | null | undefined;
  /** Sets a header field. */
  setHeader(name: string, value: string | string[]): unknown;
  /** Sends the last part of the body, and ends the response. */
  end(body?: string | Uint8Array): unknown;
}

/** An emitter of the events at the end of a response or a connection. */
interface NodeEmitter {
  /** Calls `listener` when the emitter is closed, or when all data was passed to the system. */
  on(event: 'close' | 'finish', listener: () => void): unknown;
}

/** Whether the response was sent completely, or the client has disconnected. */
export function isClosed(req: NodeRequest, res: NodeResponse): boolean {
  return res.writableFinished === true || req.socket.destroyed;
}

/** Whether the closed response was sent completely. HTTP/2 only shows whether the handler has ended the response. */
export function isSent(res: NodeResponse): boolean {
  return (res.writableFinished ?? res.writableEnded) === true;
}

/** Calls `listener` at least once when the response was sent or the client has disconnected. It cannot be removed. */
export function onClose(res: NodeResponse, listener: () => void): undefined {
  res.on('close', listener);
  // Without a server, as in a cloud function, a response that was sent emits no 'close'.
  res.on('finish', listener);
}

/**
 * Calls `listener` at least once when the handler has ended the response: by `end`, by `destroy`, or by a piped stream
 * that has ended or was destroyed. Used for a response whose client has disconnected: such a response emits no event at
 * its end. Other middleware may wrap `end`, too, before or after this call.
 */
export function onEnd(res: NodeResponse, listener: () => void): void {
  if (res.writableEnded === true) return listener();
  const response = res as unknown as Record<'end' | 'destroy', ((...args: unknown[]) => unknown) | undefined> & {
    on(event: 'unpipe', listener: (source: PipedStream) => void): unknown;
  };
  for (const name of ['end', 'destroy'] as const) {
    const original = response[name];
    response[name] = function (this: unknown, ...args) {
      try {
        return original?.apply(this, args);
      } finally {
        listener();
      }
    };
  }
  // A pipe to a closed response is removed, so the stream does not call `end`.
  response.on('unpipe', (source) => {
    if (source.destroyed === true || source.readableEnded === true) return listener();
    source.on('close', listener);
    source.on('end', listener);
  });
}

/** A stream that was piped into a response. */
interface PipedStream {
  readonly destroyed?: boolean;
  readonly readableEnded?: boolean;
  on(event: 'close' | 'end', listener: () => void): unknown;
}

/**
 * The callbacks of the requests that wait for their turn on a socket. They share one 'close' listener of the socket:
 * Node warns about a leak when an emitter has more than ten listeners.
 */
const pipelined = new WeakMap<object, Set<() => void>>();

/**
 * Waits for the turn of a response on its socket. HTTP/1 clients may send many requests at once (pipelining), and the
 * server sends the responses one after another. If each waiting request held a permit, one slow response could occupy
 * the permits of all. The promise also resolves when the client has disconnected.
 *
 * @returns `undefined` if it is already the response's turn.
 */
export function waitForTurn({ socket }: NodeRequest, res: NodeResponse): Promise<void> | undefined {
  // Runtimes that imitate Node may not set the socket of a response. There, the socket has no current response either.
  const { _httpMessage: current } = socket as { _httpMessage?: unknown };
  if (res.socket !== null || !current || current === res) return undefined;
  return new Promise((resolve) => {
    const known = pipelined.get(socket);
    const callbacks = known ?? new Set();
    if (known === undefined) {
      pipelined.set(socket, callbacks);
      socket.on('close', () => callbacks.forEach((each) => each()));
    }
    const resume = (): void => {
      callbacks.delete(resume);
      resolve();
    };
    callbacks.add(resume);
    (res as unknown as { on(event: 'socket', listener: () => void): unknown }).on('socket', resume);
  });
}

/**
 * A property of `object`, including the getters of its class. `undefined` for the properties that every object has:
 * they cannot identify a client.
 */
export function propertyOf(object: unknown, name: string): unknown {
  return Object(object) !== object || name in Object.prototype ? undefined : (object as Record<string, unknown>)[name];
}
