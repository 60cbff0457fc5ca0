/** Two readers of one response. */
import { construct, copyMetadata, isUnread, streamOf } from './response-body.js';

/** A response and its copy. Each has a body of its own. */
export interface SplitResponse {
  readonly original: Response;
  readonly copy: Response;
  /** Ends the copy, so that the rest of the body is not kept for it. It never throws and never rejects. */
  endCopy(): void;
}

const ignore = (): void => {};

/**
 * Splits the body of `response` between a caller and an observer. `Response.clone` differs in one point: a
 * `cancel()` of a body that was cloned waits until the other body has ended too. Here, a `cancel()` of the original
 * ends both, and the copy fails with an `AbortError`.
 *
 * Chunks that only one side has read are buffered.
 *
 * @param onCancel Called when the original is cancelled. It must not throw.
 * @returns `undefined` if the response has no unread body.
 */
export function splitBody(response: Response, onCancel: () => void): SplitResponse | undefined {
  if (!isUnread(response)) return undefined;
  const [first, second] = response.body.tee();
  const reader = first.getReader();
  const copyReader = second.getReader();
  let copyController: ReadableStreamDefaultController | undefined;
  const endCopy = (reason?: unknown): void => void copyReader.cancel(reason).catch(ignore);
  const original = streamOf(reader, (reason) => {
    onCancel();
    copyController?.error(new DOMException('The caller has cancelled the body of the response', 'AbortError'));
    endCopy(reason);
    return reader.cancel(reason);
  });
  // The rest of the body is dropped for the copy, not for the original, so this cancellation waits for nothing.
  const copy = streamOf(copyReader, endCopy, (controller) => (copyController = controller));
  const withBody = (body: ReadableStream<Uint8Array>): Response => copyMetadata(construct(body, response), response);
  return { original: withBody(original), copy: withBody(copy), endCopy };
}
