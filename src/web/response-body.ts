/**
 * The body of a response: when it has been read, and how to get rid of it. Web streams wherever `fetch` runs, and the
 * Node streams of clients such as node-fetch.
 */

/** The members of a response that a copy cannot be constructed with, or not always: servers do send a status of 999. */
const FACTS = ['status', 'statusText', 'ok', 'url', 'redirected', 'type'] as const;

/** The statuses of responses without a body. node-fetch has a stream for them all the same. */
const BODILESS = new Set([101, 204, 205, 304]);

/** The part of a Node stream that matters here. */
interface NodeStream {
  on(event: string, listener: (source: unknown) => void): unknown;
  destroy?(): unknown;
  resume?(): unknown;
  readonly destroyed?: boolean;
  readonly readableEnded?: boolean;
}

/**
 * Calls `release` once the body of `response` has been read to the end, cancelled or destroyed, or has failed. It does so
 * at once where there is no body, or where another reader has the body. A response that is garbage collected unread
 * releases too, where the platform has a `FinalizationRegistry`, and its connection is closed. Any reader, pipe, clone or
 * reference to the body keeps a response alive. A Node stream counts as read by others from the first access to `body` or
 * to a method; then the end of the stream alone releases.
 *
 * Nothing is buffered: a chunk is requested when the reader requests it.
 *
 * @param release Called exactly once. It must not throw.
 * @param isHead Whether the request was a HEAD, whose response has no body.
 * @returns A response that is as good as the original, to be used in its place.
 */
export function releaseWhenRead(response: Response, release: () => void, isHead: boolean = false): Response {
  if (isUnread(response))
    return copyMetadata(construct(passOn(response.body, release, whenCollected), response), response);
  const body: unknown = response.body;
  if (
    isNodeStream(body) &&
    !isHead &&
    !BODILESS.has(response.status) &&
    !response.bodyUsed &&
    !body.destroyed &&
    !body.readableEnded
  ) {
    return watchNodeStream(response, body, release);
  }
  release();
  return response;
}

/** Whether there is a web stream for a body, and no other reader has it. A Node stream has no `locked`. */
export function isUnread(response: Response): response is Response & { body: ReadableStream<Uint8Array> } {
  return response.body?.locked === false && !response.bodyUsed;
}

/**
 * A stream with the chunks of `body`, which calls `release` as {@link releaseWhenRead} does.
 *
 * @param watch Called with the stream and a way to end it: `releaseWhenRead` ends a stream that is garbage collected.
 */
export function passOn(
  body: ReadableStream<Uint8Array>,
  release: () => void,
  watch?: typeof whenCollected,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  // `closed` settles once, at the end, on a cancellation and on a failure; on a failure also before the reader sees it.
  void reader.closed.then(release, release);
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value as Uint8Array<ArrayBuffer>);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  // The reader refers to the stream only while a chunk is awaited, which is while the stream is being read.
  watch?.(stream, { abandon: () => reader.cancel().catch(() => {}) });
  return stream;
}

/**
 * The clones that are made of `response` from now on. A clone that is never read holds the connection as long as the
 * response does, so they are discarded together.
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

/** Closes the connection of a response that will not be read. It never throws, and its promise never rejects. */
export async function discard(response: { readonly body?: unknown } | null | undefined): Promise<void> {
  try {
    const body = response?.body as Partial<ReadableStream> | null | undefined;
    if (typeof body?.cancel === 'function') await body.cancel();
    else if (isNodeStream(body)) destroyStream(body);
  } catch {
    // The body has failed or ended by itself, or another reader has it.
  }
}

function isNodeStream(body: unknown): body is NodeStream {
  return typeof (body as NodeStream | null | undefined)?.on === 'function';
}

/** Destroys a stream and the streams that are piped into it: node-fetch 2 pipes the socket's stream without `pipeline`. */
function destroyStream(stream: unknown): void {
  if (!isNodeStream(stream)) return;
  stream.on('unpipe', destroyStream);
  stream.on('error', () => {});
  if (stream.destroy) stream.destroy();
  else stream.resume?.();
}

/** An entry of the registry. It must not refer to the object whose collection it awaits. */
interface Collectable {
  /** It must not throw, and its promise must not reject. */
  abandon(): unknown;
}

let registry: FinalizationRegistry<Collectable> | undefined;

/** Calls `abandon` some time after `object` has been garbage collected, where the platform supports it. */
function whenCollected(object: WeakKey, entry: Collectable): void {
  if (typeof FinalizationRegistry === 'undefined') return;
  registry ??= new FinalizationRegistry((collected) => void collected.abandon());
  registry.register(object, entry);
}

/**
 * node-fetch refers to its own response for as long as the connection is open, so that response is never collected. The
 * caller gets a proxy of it instead, which nothing else refers to.
 */
function watchNodeStream(response: Response, body: NodeStream, release: () => void): Response {
  const entry = releaseAtEnd(body, release);
  const watched = new Proxy(response, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      const isMethod = typeof value === 'function' && name !== 'constructor';
      if (isMethod || name === 'body') entry.used = true;
      return isMethod ? (value as () => unknown).bind(target) : value;
    },
  });
  whenCollected(watched, entry);
  return watched;
}

function releaseAtEnd(body: NodeStream, release: () => void): Collectable & { used: boolean } {
  let held = true;
  const finish = (): void => {
    if (held) release();
    held = false;
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

/** A response of the same class, so that `instanceof` holds for other clients than the platform's. */
function construct(body: ReadableStream, original: Response): Response {
  const Kind =
    typeof original.constructor?.prototype?.clone === 'function' ? (original.constructor as typeof Response) : Response;
  try {
    const copy = new Kind(body, original);
    // The constructor of a subclass may take other arguments.
    if (copy.body === body) return copy;
  } catch {
    // A status or a text that no response can be constructed with.
  }
  return new Response(body, { headers: original.headers });
}

/** Gives `copy`, and the clones of it, the metadata of `original`. */
function copyMetadata(copy: Response, original: Response): Response {
  for (const fact of FACTS) {
    if (copy[fact] !== original[fact]) Object.defineProperty(copy, fact, { value: original[fact], configurable: true });
  }
  const clone = copy.clone.bind(copy);
  return Object.defineProperty(copy, 'clone', {
    value: () => copyMetadata(clone(), original),
    configurable: true,
    writable: true,
  });
}
