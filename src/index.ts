/** The public names of `headgate`, a throttle for asynchronous TypeScript. This file contains only exports. */
export type {
  CallMessage,
  GrantedMessage,
  PausedMessage,
  QueuedMessage,
  RefusalReason,
  RefusedMessage,
  ReleasedMessage,
  ThrottleMessage,
  ThrottleMessages,
  WatchedThrottle,
} from './core/events.js';
export type { Clock } from './core/clock.js';
export type { Cost, CostRecord } from './core/cost.js';
export {
  PermitExpiredError,
  QueueClearedError,
  QueueFullError,
  ServerBusyError,
  ThrottleClosedError,
  ThrottleError,
  type ThrottleErrorOptions,
  ThrottleTimeoutError,
} from './core/errors.js';
export type { AcquireOptions, CorrectOptions, Gate, KeyedGate } from './core/gate.js';
export { KeyedThrottle } from './compose/keyed-throttle.js';
export type { KeyedThrottleData, KeyedThrottleOptions, KeyedThrottleSettings } from './compose/keyed-options.js';
export type { JointCost, ResourcesPermit } from './compose/joint-permit.js';
export {
  Limiter,
  type LimiterAcquireOptions,
  type LimiterData,
  type LimiterOptions,
  type Resources,
} from './compose/limiter.js';
export { Resource } from './compose/resource.js';
export type { MapOptions } from './core/map.js';
export type { IdleOptions } from './core/idle.js';
export type { PermitData, ThrottleData } from './core/inspect.js';
export type { Permit, ThrottlePermit } from './core/permit.js';
export type { Rate } from './core/limits.js';
export { Throttle } from './core/throttle.js';
export type { Limits, ThrottleOptions, ThrottleSettings } from './core/throttle-options.js';
