/** `headgate/nest`: limits in applications of NestJS. This file only exports the public names. */
export { LimitException } from './exception.js';
export { getGateToken, InjectGate, Limit, LimitGuard, type RouteDecorator, SkipLimit } from './guard.js';
export { HEADGATE_OPTIONS, HeadgateModule } from './module.js';
export type {
  HeadgateAsyncOptions,
  HeadgateOptions,
  HeadgateSettings,
  HttpMessages,
  LimitOverrides,
  LimitSettings,
  NoDefaultLimit,
} from './options.js';
