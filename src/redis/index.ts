/** The public names of `headgate/redis`. */
export {
  type IoredisClient,
  type NodeRedisClient,
  type NodeRedisPool,
  type RedisClientOptions,
  type RedisCommands,
  type RedisConnection,
} from './client.js';
export { LeaseLostError, ThrottleBackendError } from './errors.js';
export { RedisKeyedThrottle, type RedisKeyedThrottleData } from './keyed.js';
export { type RedisPermit } from './lease.js';
export { type RedisKeyedThrottleOptions, type RedisThrottleOptions } from './options.js';
export { type RedisState } from './inspect.js';
export { RedisThrottle, type RedisThrottleData } from './throttle.js';
