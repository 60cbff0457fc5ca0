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
  /** Not there in HTTP/2. */
  readonly writableFinished?: boolean | undefined;
  /** `null` while responses before it keep the socket busy. */
  readonly socket: object | null | undefined;
  /** Sets a header field. */
  setHeader(name: string, value: string | string[]): unknown;
  /** Sends the rest, and ends the response. */
  end(body?: string | Uint8Array): unknown;
}

/** What tells that it is over. */
interface NodeEmitter {
  /** Calls `listener` when it closes, or when all was handed over to the system. */
  on(event: 'close' | 'finish', listener: () => void): unknown;
}

/** Whether the response was sent, or nobody is there any more to send it to. */
export function isOver(req: NodeRequest, res: NodeResponse): boolean {
  return res.writableFinished === true || req.socket.destroyed;
}

/** What to call when a socket closes. One listener serves all of them: more than ten would look like a leak. */
const pipelined = new WeakMap<object, Set<() => void>>();

/** Calls `end` when the response was sent or the client has gone: at least once. It cannot be taken back. */
export function whenOver(req: NodeRequest, res: NodeResponse, end: () => void): undefined {
  res.on('close', end);
  // Where no server is behind it, as in a cloud function, a response that was sent does not close.
  res.on('finish', end);
  if (res.socket !== null) return undefined;
  // A pipelined request, whose turn has not come. If the client goes first, its response never tells.
  const { socket } = req;
  const ends = pipelined.get(socket) ?? new Set();
  if (!pipelined.has(socket)) socket.on('close', () => ends.forEach((each) => each()));
  pipelined.set(socket, ends.add(end));
  res.on('close', () => ends.delete(end));
  return undefined;
}

/** A property of `object`, its class's getters included; of any object whatever, nothing: that can stand for nobody. */
export function propertyOf(object: unknown, name: string): unknown {
  return Object(object) !== object || name in Object.prototype ? undefined : (object as Record<string, unknown>)[name];
}
