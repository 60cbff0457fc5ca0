/**
 * `headgate/fetch`: a `fetch` that keeps to the limits of an upstream, and waits when the upstream refuses a request.
 */
export {
  type FetchLike,
  type HeaderLookup,
  type HeaderSource,
  readWait,
  type Refusal,
  type ResponseLike,
  type SentRequest,
  throttledFetch,
  type ThrottledFetchOptions,
} from './throttled-fetch.js';
