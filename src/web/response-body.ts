/**
 * Knowing when the body of a response is done with. Web streams only: it runs wherever `fetch` does.
 */

/** What a copy of a response cannot be constructed with, or not always: 999 is a status that is met, and refused. */
const FACTS = ['status', 'statusText', 'ok', 'url', 'redirected', 'type'] as const;

/**
 * Calls `release` once the body of `response` is done with: read to the end, cancelled, or broken off. It does so at
 * once where there is no body, or where somebody else reads it already. Until the body is read or cancelled nothing
 * tells that nobody ever will, so `release` is not called either.
 *
 * Nothing is buffered: a chunk is asked for when the reader asks for it.
 *
 * @param release Called exactly once. It must not throw.
 * @returns A response that is as good as the original, to be used in its place.
 */
export function releaseWhenRead(response: Response, release: () => void): Response {
  if (isUnread(response)) return disguise(construct(passOn(response.body, release), response), response);
  release();
  return response;
}

/** Whether there is a body, and nobody else who reads it. */
export function isUnread(response: Response): response is Response & { body: ReadableStream<Uint8Array> } {
  return response.body !== null && !response.body.locked && !response.bodyUsed;
}

/** What `body` has to say; `release` is called as by {@link releaseWhenRead}. */
export function passOn(body: ReadableStream<Uint8Array>, release: () => void): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  // It settles in each of the three cases, once; where the platform reads ahead, for an error that nobody reads, too.
  void reader.closed.then(release, release);
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value as Uint8Array<ArrayBuffer>);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}

function construct(body: ReadableStream, original: Response): Response {
  try {
    return new Response(body, original);
  } catch {
    return new Response(body, { headers: original.headers });
  }
}

/** Lets `copy`, and the clones of it, tell of itself what `original` does. */
function disguise(copy: Response, original: Response): Response {
  for (const fact of FACTS) {
    if (copy[fact] !== original[fact]) Object.defineProperty(copy, fact, { value: original[fact], configurable: true });
  }
  const clone = copy.clone.bind(copy);
  return Object.defineProperty(copy, 'clone', { value: () => disguise(clone(), original), configurable: true, writable: true });
}
