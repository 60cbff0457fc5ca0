/** `headgate/http`: gates in front of HTTP handlers. The public names, nothing else. */
export type { Answer, CommonOptions, GatePerKey, LimitOptions, Refusal, SharedGate } from './options.js';
export { express, type ExpressMiddleware, type ExpressRequest } from './express.js';
export { fastify, type FastifyHook, type FastifyInstance, type FastifyOptions, type FastifyPlugin, type FastifyReply, type FastifyRequest } from './fastify.js';
export { hono, type HonoContext, type HonoMiddleware, type HonoRequest } from './hono.js';
export type { Key, KeyValue } from './key.js';
export { koa, type KoaContext, type KoaMiddleware } from './koa.js';
export { type BackendNeeds, concurrencyLimit, type ConcurrencyLimitOptions } from './limit.js';
export type { NodeRequest, NodeResponse } from './node.js';
export { RefusalError } from './refusal.js';
export { permitOf } from './served-request.js';
export { web, type WebHandler } from './web.js';
