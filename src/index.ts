/** headgate: a throttle for asynchronous TypeScript. The public names, nothing else. */
export type {
  CallMessage, GrantedMessage, PausedMessage, QueuedMessage, RefusalReason, RefusedMessage, ReleasedMessage, ThrottleMessage, ThrottleMessages, WatchedThrottle,
} from './channels.js';
export type { Clock } from './clock.js';
export { QueueFullError, ServerBusyError, ThrottleClosedError, ThrottleError, type ThrottleErrorOptions, ThrottleTimeoutError } from './errors.js';
export type { AcquireOptions, Gate, KeyedGate } from './gate.js';
export { KeyedThrottle, type KeyedThrottleOptions } from './keyed.js';
export { Limiter, type LimiterOptions, Resource, type Resources } from './limiter.js';
export type { MapOptions } from './map.js';
export type { Permit } from './permit.js';
export type { Rate } from './rate.js';
export { type Limits, Throttle, type ThrottleOptions } from './throttle.js';
