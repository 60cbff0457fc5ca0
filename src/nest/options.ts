/** The options of `HeadgateModule`, and their validation. */
import type { ExecutionContext, FactoryProvider, ModuleMetadata } from '@nestjs/common';
import type { Gate, KeyedGate } from '../core/gate.js';
import { checkOptionNames } from '../core/option-names.js';
import { checkFunction, checkNumber, checkObject, invalid } from '../core/validation.js';
import { COMMON_OPTIONS, type CommonOptions, type LimitOptions } from '../http/options.js';
import type { Key } from '../http/key.js';

/**
 * A limit: a `gate` for all requests, or a `keyed` gate with a `key`, and the options of every adapter of
 * `headgate/http`. The functions `key`, `cost`, `skip` and `onLimited` receive Nest's `ExecutionContext`.
 */
export type LimitSettings = LimitOptions<[context: ExecutionContext]>;

/** The options of a limit that a route may replace. */
export type LimitOverrides = CommonOptions<[context: ExecutionContext]> & {
  /** The key of a request, for a limit with a `keyed` gate. */
  key?: Key<[context: ExecutionContext]> | undefined;
};

/** The HTTP request and the HTTP response of the platform: of Express or of Fastify. */
export interface HttpMessages {
  /** The request of Express or Fastify. */
  readonly request: object;
  /** The response of Express, or the reply of Fastify. */
  readonly response: object;
}

/** The options of the module, without the limit `default`. */
export interface HeadgateSettings {
  /**
   * The limits by name. `@Limit('name')` applies a limit to a route, and `@InjectGate('name')` injects its gate. A gate
   * alone is a limit without further options; a keyed gate alone has no `key`, so `@Limit` must supply the `key`. The
   * limit named `default` applies to every route behind {@link LimitGuard}.
   */
  limits?: Readonly<Record<string, LimitSettings | Gate | KeyedGate>> | undefined;
  /**
   * The longest time, in seconds, from 0 to 2,147,483, that a shutdown waits for the queued and running work of the
   * gates. Default 10. Gates with a `drain` method refuse new calls from the start of the shutdown. After the shutdown,
   * all gates are closed. With `false`, a shutdown does not change the gates.
   */
  drain?: number | false | undefined;
  /**
   * Returns the HTTP request and response of a context that is not HTTP, such as the context of a GraphQL resolver.
   * Requests for which it returns `undefined` are not counted. Without this option, the limit `default` does not count
   * such contexts, and `@Limit` throws a `TypeError`.
   */
  http?: ((context: ExecutionContext) => HttpMessages | undefined) | undefined;
}

/** A module without a limit of its own at the top level. */
export interface NoDefaultLimit {
  /** Not without a default limit. */
  gate?: undefined;
  /** Not without a default limit. */
  keyed?: undefined;
  /** Not without a default limit. */
  key?: undefined;
}

/**
 * The options of the module. The options of a {@link LimitSettings | limit} at the top level are the limit `default`,
 * which applies to every route behind {@link LimitGuard}.
 */
export type HeadgateOptions = HeadgateSettings & (LimitSettings | NoDefaultLimit);

/** The options of `HeadgateModule.forRootAsync`. */
export interface HeadgateAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  /** The providers that `useFactory` receives. */
  inject?: FactoryProvider['inject'];
  /** Returns the options of the module, or a promise of them. It is called once for each application. */
  useFactory: (...args: never[]) => HeadgateOptions | Promise<HeadgateOptions>;
  /** The names that `@InjectGate` may use. Nest needs them before it calls `useFactory`. Default: none. */
  names?: readonly string[] | undefined;
  /** Whether all modules see the limits without an import. Default `true`. */
  global?: boolean | undefined;
}

/** A limit of the module. */
export interface NamedLimit {
  readonly gate: Gate | KeyedGate;
  readonly settings: LimitSettings;
}

/** The options with their defaults. */
export interface CheckedModule {
  readonly limits: ReadonlyMap<string, NamedLimit>;
  readonly drain: number | false;
  readonly http: HeadgateSettings['http'];
}

/** The name of the limit that applies to every route behind the guard. */
export const DEFAULT_LIMIT = 'default';

const MODULE_OPTIONS: readonly string[] = [
  'limits',
  'drain',
  'http',
  'global',
  'gate',
  'keyed',
  'key',
  ...COMMON_OPTIONS,
];

/** Checks the options of the module. @throws {RangeError | TypeError} An option is out of range. */
export function checkModuleOptions(options: HeadgateOptions): CheckedModule {
  checkObject('options', options);
  checkOptionNames('HeadgateModule.forRoot', options, MODULE_OPTIONS);
  // `global` belongs to `forRoot`.
  const { limits = {}, drain = 10, http, global: _, ...rest } = options as HeadgateOptions & { global?: unknown };
  checkObject('limits', limits);
  if (drain !== false) checkNumber('drain', 'false or a number from 0 to 2147483', drain, 0, 2_147_483);
  if (http !== undefined) checkFunction('http', http);
  const named = new Map(Object.entries(limits).map(([name, limit]) => [name, namedLimit(`limits.${name}`, limit)]));
  if (Object.values(rest).some((value) => value !== undefined)) {
    if (named.has(DEFAULT_LIMIT))
      throw new TypeError('options must state the limit "default" once: at the top level or in limits');
    named.set(DEFAULT_LIMIT, namedLimit('options', rest));
  }
  return { limits: named, drain, http };
}

/** The names of the limits, for the providers of `@InjectGate`. */
export function limitNames(options: HeadgateOptions): string[] {
  return [...checkModuleOptions(options).limits.keys()];
}

function namedLimit(name: string, limit: unknown): NamedLimit {
  checkObject(name, limit);
  const { keyed, gate } = limit as Partial<Record<'keyed' | 'gate', unknown>>;
  const isGate = typeof (limit as Partial<Gate>).acquire === 'function';
  const settings = (isGate ? (keyed === true ? { keyed: limit } : { gate: limit }) : limit) as LimitSettings;
  const own = isGate ? limit : (keyed ?? gate);
  if (typeof (own as Partial<Gate> | undefined)?.acquire !== 'function')
    throw invalid(name, 'a gate, or the options of a limit with either gate or keyed', limit);
  return { gate: own as Gate | KeyedGate, settings };
}
