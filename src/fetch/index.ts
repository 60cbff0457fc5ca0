/**
 * `headgate/fetch`: a `fetch` that keeps to the limits of an upstream, and waits when the upstream refuses a request.
 */
export { anthropic, github, openai, type Preset } from './presets.js';
export { readWait } from './read-wait.js';
export { type SendFailure, type SendOutcome, type SendResult, throttled, type ThrottledOptions } from './throttled.js';
export { throttledFetch } from './throttled-fetch.js';
export type { FetchLike, Refusal, ResponseLike, ThrottledFetchOptions } from './options.js';
export type { SentRequest } from './request-copy.js';
export type { HeaderLookup, HeaderSource } from '../web/retry-after.js';
export { type UndiciInterceptor, type UndiciRequest, undiciThrottle, type UndiciThrottleOptions } from './undici.js';
