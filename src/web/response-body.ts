/**
 * The end of a response's body: a callback when the body has been read, and the cancellation of an unwanted body. It
 * supports web streams, and the Node streams of clients such as node-fetch.
 */

/**
 * The members of a response that its constructor does not accept, or does not always accept. Some servers send 999 as
 * the status, for example.
 */
const METADATA = ['status', 'statusText', 'ok', 'url', 'redirected', 'type'] as const;

/** The statuses of responses without a body. node-fetch creates a stream even for them. */
const STATUSES_WITHOUT_BODY = new Set([101, 204, 205, 304]);

/** The part of a Node stream that is used here. */
interface NodeStream {
  on(event: string, listener: (source: unknown) => void): unknown;
  destroy?(): unknown;
  resume?(): unknown;
  readonly destroyed?: boolean;
  readonly readableEnded?: boolean;
}

/**
 * Calls `release` when the body of `response` has been read to the end, cancelled or destroyed, or has failed. If the
 * response has no body, or another reader has the body, `release` is called immediately.
 *
 * If the response is garbage collected unread, its connection is closed and `release` is called. This needs a
 * `FinalizationRegistry`. Any reader, pipe, clone or reference to the body keeps a response alive. For a Node stream,
 * collection counts only until the first access to `body` or to a method. After that, only the stream's end counts.
 *
 * The body is not buffered: each chunk is requested when the reader requests it.
 *
 * @param release Called exactly once. It must not throw.
 * @param isHead Whether the method of the request was HEAD, whose response has no body.
 * @returns A response with the same metadata and body. The caller must use it in place of the original.
 */
export function releaseWhenRead(response: Response, release: () => void, isHead: boolean = false): Response {
  if (isUnread(response))
    return copyMetadata(construct(passOn(response.body, release, whenCollected), response), response);
  const body: unknown = response.body;
  if (
    isNodeStream(body) &&
    !isHead &&
    !STATUSES_WITHOUT_BODY.has(response.status) &&
    !response.bodyUsed &&
    !body.destroyed &&
    !body.readableEnded
  ) {
    return watchNodeStream(response, body, release);
  }
  release();
  return response;
}

/** Whether the body is a web stream that no reader has. A Node stream has no `locked`. */
export function isUnread(response: Response): response is Response & { body: ReadableStream<Uint8Array> } {
  return response.body?.locked === false && !response.bodyUsed;
}

/**
 * A stream with the chunks of `body`, which calls `release` as {@link releaseWhenRead} does.
 *
 * @param watch Called with the stream and a function that cancels `body`. {@link releaseWhenRead} uses it to cancel the
 *   body after the stream has been garbage collected.
 */
export function passOn(
  body: ReadableStream<Uint8Array>,
  release: () => void,
  watch?: typeof whenCollected,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  // `closed` settles once: at the end, after a cancellation, or after a failure, even if no chunk is requested.
  void reader.closed.then(release, release);
  const stream = streamOf(reader, (reason) => reader.cancel(reason));
  // `reader` refers to the stream only while a chunk is awaited. At other times the stream can be collected.
  watch?.(stream, { abandon: () => reader.cancel().catch(() => {}) });
  return stream;
}

/** A stream that requests a chunk of `reader` for each chunk that is requested of the stream. */
export function streamOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  cancel: (reason: unknown) => void | Promise<void>,
  start: (controller: ReadableStreamDefaultController) => void = () => {},
): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start,
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value as Uint8Array<ArrayBuffer>);
      },
      cancel,
    },
    { highWaterMark: 0 },
  );
}

/**
 * Records the clones that are made of `response` from now on. An unread clone keeps the connection open, so the clones
 * must be discarded together with the response.
 */
export function clonesOf(response: Response): Response[] {
  const clones: Response[] = [];
  if (typeof response.clone !== 'function' || !Object.isExtensible(response)) return clones;
  const clone = response.clone.bind(response);
  const value = (): Response => {
    const copy = clone();
    clones.push(copy);
    return copy;
  };
  Object.defineProperty(response, 'clone', { value, configurable: true, writable: true });
  return clones;
}

/** Closes the connection of a response that will not be read. The function never throws and never rejects. */
export async function discard(response: { readonly body?: unknown } | null | undefined): Promise<void> {
  try {
    const body = response?.body as Partial<ReadableStream> | null | undefined;
    if (typeof body?.cancel === 'function') await body.cancel();
    else destroyStream(body);
  } catch {
    // The body has failed or has ended, or another reader has it.
  }
}

/**
 * Ends a copy of a request or of a response, so that the rest of its body is not kept for it. The original can still be
 * read. The function never throws and never rejects.
 */
export async function discardCopy(copy: { readonly body?: unknown }): Promise<void> {
  try {
    const body = copy.body as (Partial<ReadableStream> & Partial<NodeStream>) | null | undefined;
    if (typeof body?.cancel === 'function') await body.cancel();
    // The source of both copies is piped into each of them, and would stop for a copy that is not read.
    else body?.resume?.();
  } catch {
    // The body has failed, or a reader has it.
  }
}

function isNodeStream(body: unknown): body is NodeStream {
  return typeof (body as NodeStream | null | undefined)?.on === 'function';
}

/**
 * Destroys a Node stream and its sources. Ignores any other value. node-fetch 2 pipes the stream of the socket into the
 * body without `pipeline`.
 */
function destroyStream(stream: unknown): void {
  if (!isNodeStream(stream)) return;
  stream.on('unpipe', destroyStream);
  stream.on('error', () => {});
  if (stream.destroy) stream.destroy();
  else stream.resume?.();
}

/** The entry of an object in the registry. It must not refer to that object, or the object would never be collected. */
interface Collectable {
  /**
   * The registry calls `abandon` after the garbage collection of the registered object. It must not throw or reject.
   */
  abandon(): unknown;
}

let registry: FinalizationRegistry<Collectable> | undefined;

/** Calls `abandon` some time after `object` has been garbage collected, if the platform supports this. */
function whenCollected(object: WeakKey, entry: Collectable): void {
  if (typeof FinalizationRegistry === 'undefined') return;
  registry ??= new FinalizationRegistry((collected) => void collected.abandon());
  registry.register(object, entry);
}

/**
 * Watches a response of node-fetch. The open connection refers to the original response, which is therefore never
 * collected. The caller gets a proxy, which only the caller refers to.
 */
function watchNodeStream(response: Response, body: NodeStream, release: () => void): Response {
  const entry = releaseAtEnd(body, release);
  const proxy = new Proxy(response, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      const isMethod = typeof value === 'function' && name !== 'constructor';
      if (isMethod || name === 'body') entry.used = true;
      return isMethod ? (value as () => unknown).bind(target) : value;
    },
  });
  whenCollected(proxy, entry);
  return proxy;
}

function releaseAtEnd(body: NodeStream, release: () => void): Collectable & { used: boolean } {
  let isHeld = true;
  const finish = (): void => {
    if (isHeld) release();
    isHeld = false;
  };
  for (const event of ['end', 'close', 'error']) body.on(event, finish);
  const entry = {
    used: false,
    abandon(): void {
      if (entry.used) return;
      finish();
      destroyStream(body);
    },
  };
  return entry;
}

/** Constructs a response of the class of `original`, so that `instanceof` holds for the responses of undici, too. */
export function construct(body: ReadableStream, original: Response): Response {
  try {
    const copy = new (original.constructor as typeof Response)(body, original);
    // The constructor of a subclass may have other parameters.
    if (copy.body === body) return copy;
  } catch {
    // The constructor does not accept this status or status text, or the original has no constructor.
  }
  return new Response(body, { headers: original.headers });
}

/** Copies the metadata of `original` to `copy` and to its clones. */
export function copyMetadata(copy: Response, original: Response): Response {
  for (const name of METADATA) {
    if (copy[name] !== original[name]) Object.defineProperty(copy, name, { value: original[name], configurable: true });
  }
  const clone = copy.clone.bind(copy);
  return Object.defineProperty(copy, 'clone', {
    value: () => copyMetadata(clone(), original),
    configurable: true,
    writable: true,
  });
}
