/** `headgate/http`: gates in front of HTTP handlers. This file only exports the public names. */
export type { Answer, CommonOptions, GatePerKey, LimitOptions, Refusal, SharedGate } from './options.js';
export { express, type ExpressMiddleware, type ExpressRequest } from './adapters/express.js';
export {
  fastify,
  type FastifyAdapter,
  type FastifyHook,
  type FastifyInstance,
  type FastifyOptions,
  type FastifyPlugin,
  type FastifyReply,
  type FastifyRequest,
  type FastifyRoute,
  type FastifyRouteHook,
} from './adapters/fastify.js';
export { hono, type HonoContext, type HonoMiddleware, type HonoRequest } from './adapters/hono.js';
export type { Key, KeyValue } from './key.js';
export { koa, type KoaContext, type KoaMiddleware } from './adapters/koa.js';
export { type BackendNeeds, concurrencyLimit, type ConcurrencyLimitOptions } from './concurrency-limit.js';
export type { NodeRequest, NodeResponse } from './platform/node-response.js';
export { limitUpgrade, type UpgradeLimit, type UpgradeRequest } from './adapters/upgrade.js';
export type { UpgradeSocket } from './platform/upgrade-socket.js';
export { RefusalError } from './refusal.js';
export { permitOf } from './request-state.js';
export { web, type WebHandler } from './adapters/web.js';
