/** The guard for all routes, and the decorators that apply limits to routes, or exempt routes from limits. */
import { type CanActivate, type ExecutionContext, Inject, Injectable, SetMetadata, UseGuards } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { checkObject, invalid } from '../core/validation.js';
import type { LimitOverrides, LimitSettings } from './options.js';
import { DEFAULT_REFERENCE, type LimitReference, type LimitRegistry, REGISTRY } from './registry.js';

/** A decorator for controllers and for their methods. */
export type RouteDecorator = ClassDecorator & MethodDecorator;

/** The metadata of {@link Limit}: a list of references. */
const LIMITS = 'headgate:limits';
/** The metadata of {@link SkipLimit}: a list of names, and `true` for all limits. */
const SKIPPED = 'headgate:skipped';

const reflector = new Reflector();

/** A class or a method. */
type Decorated = (...args: never[]) => unknown;

/** Reads the list that decorators have stored for a class or a method. */
function readList(key: string, decorated: object): readonly unknown[] {
  return reflector.get<unknown[] | undefined>(key, decorated as Decorated) ?? [];
}

/** Returns what the decorators of a class or a method refer to: limits, and the names of skipped limits. */
export function referencesOf(decorated: object): { limits: readonly LimitReference[]; skipped: readonly string[] } {
  return {
    limits: readList(LIMITS, decorated) as LimitReference[],
    skipped: readList(SKIPPED, decorated).filter((name) => typeof name === 'string'),
  };
}

/**
 * Applies the limit `default` of the module to every route that it guards: to all routes of the application with
 * `{ provide: APP_GUARD, useClass: LimitGuard }`, or to some with `@UseGuards(LimitGuard)`. Nest calls guards in the
 * order of their registration. A limit with the key `'user'` needs a guard that authenticates before it.
 *
 * @example
 * import { Module } from '@nestjs/common';
 * import { APP_GUARD, NestFactory } from '@nestjs/core';
 * import { KeyedThrottle } from 'headgate';
 * import { HeadgateModule, LimitGuard } from 'headgate/nest';
 *
 * class AppModule {}
 * // Each client address: 10 requests per second, at most 4 at a time. A request over the limit queues for up to 2 s.
 * Module({
 *   imports: [HeadgateModule.forRoot({ keyed: new KeyedThrottle(10, 4), key: 'ip', wait: 2 })],
 *   providers: [{ provide: APP_GUARD, useClass: LimitGuard }],
 * })(AppModule);
 *
 * const app = await NestFactory.create(AppModule, { logger: false });
 * await app.init();
 * await app.close();
 */
export class LimitGuard implements CanActivate {
  readonly #registry: LimitRegistry;

  /** @param registry The limits of the application. Nest injects them. */
  constructor(registry: object) {
    this.#registry = registry as LimitRegistry;
    this.#registry.guardExists = true;
  }

  /**
   * Applies the limit `default`, unless the route has `@SkipLimit`.
   *
   * @returns A promise of `true`. It rejects with a `LimitException` for a refused request, with an `HttpException` for
   *   a request without a key (400) or without a client (499), and with the error of a gate that fails.
   */
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const isSkipped = skips(context.getHandler(), DEFAULT_REFERENCE) || skips(context.getClass(), DEFAULT_REFERENCE);
    if (!isSkipped && this.#registry.hasDefault) await this.#registry.admit(DEFAULT_REFERENCE, context, false);
    return true;
  }
}
makeInjectable(LimitGuard);

/**
 * Applies a limit to a method of a controller, or to all methods of a controller. No other guard is needed. The limit
 * counts in addition to the limit `default` and to the limits of the controller. A route may have several limits.
 *
 * @param limit The name of a limit of `HeadgateModule`, or the options of a limit. A name is checked when the
 *   application starts.
 * @param overrides Options that replace options of the limit on this route, such as its `cost`.
 * @throws {TypeError} `limit` is neither a name nor an object, or `overrides` is no object.
 *
 * @example
 * import { Resource } from 'headgate';
 * import { Limit } from 'headgate/nest';
 *
 * export class ReportsController {
 *   day() {} // in an application, write the decorators above the methods
 *   year() {}
 * }
 * const route = (name: 'day' | 'year') =>
 *   [ReportsController.prototype, name, Object.getOwnPropertyDescriptor(ReportsController.prototype, name)!] as const;
 * Limit('reports')(...route('day')); // a limit of HeadgateModule
 * Limit('reports', { cost: 10 })(...route('year')); // this route costs more
 * Limit({ gate: new Resource(2), hold: 'handler' })(...route('year')); // and at most two at a time
 */
export function Limit(limit: string | LimitSettings, overrides?: LimitOverrides): RouteDecorator {
  if (typeof limit !== 'string' && (typeof limit !== 'object' || limit === null))
    throw invalid('limit', 'the name of a limit of HeadgateModule, or the options of a limit', limit);
  if (overrides !== undefined) checkObject('overrides', overrides);
  const reference: LimitReference = { limit, overrides };
  return routeDecorator((decorated, isMethod) => {
    addToList(LIMITS, reference, decorated);
    UseGuards(createGuard(reference, isMethod))(decorated);
  });
}

/**
 * Exempts a method of a controller, or all methods, from limits that are declared further out. On a method, these are
 * the limit `default` and the limits of the controller; on a controller, the limit `default`. A `@Limit` beside
 * `@SkipLimit` still applies.
 *
 * @param names The names of the exempted limits. Default: all limits.
 *
 * @example
 * import { SkipLimit } from 'headgate/nest';
 *
 * export class HealthController {}
 * SkipLimit()(HealthController); // as @SkipLimit() above the class
 */
export function SkipLimit(...names: string[]): RouteDecorator {
  for (const name of names) if (typeof name !== 'string') throw invalid('names', 'names of limits', name);
  const skipped: (string | true)[] = names.length === 0 ? [true] : names;
  return routeDecorator((decorated) => {
    for (const name of skipped) addToList(SKIPPED, name, decorated);
  });
}

/**
 * Returns the token of the provider for the gate of a limit: for `app.get(getGateToken('exports'))` and for `inject`.
 *
 * @param name The name of the limit. Default `'default'`.
 */
export function getGateToken(name: string = 'default'): string {
  return `headgate gate "${name}"`;
}

/**
 * Injects the gate of a limit of `HeadgateModule` into a constructor or a property.
 *
 * @param name The name of the limit. Default `'default'`.
 *
 * @example
 * import type { Throttle } from 'headgate';
 * import { InjectGate } from 'headgate/nest';
 *
 * export class MailService {
 *   constructor(@InjectGate('mail') private readonly gate: Throttle) {}
 *
 *   send(text: string) {
 *     return this.gate.run(async () => text.length);
 *   }
 * }
 */
export function InjectGate(name?: string): ParameterDecorator & PropertyDecorator {
  return Inject(getGateToken(name));
}

/** Creates the guard of one decorator. Nest creates guards by their classes. */
function createGuard(reference: LimitReference, isOnMethod: boolean): new (registry: object) => CanActivate {
  class RouteLimitGuard implements CanActivate {
    readonly #registry: LimitRegistry;

    constructor(registry: object) {
      this.#registry = registry as LimitRegistry;
    }

    async canActivate(context: ExecutionContext): Promise<boolean> {
      if (isOnMethod || !skips(context.getHandler(), reference)) await this.#registry.admit(reference, context, true);
      return true;
    }
  }
  makeInjectable(RouteLimitGuard);
  return RouteLimitGuard;
}

/** Whether `@SkipLimit` of `target` exempts from a limit. */
function skips(target: object, { limit }: LimitReference): boolean {
  return readList(SKIPPED, target).some((name) => name === true || name === limit);
}

/** Declares the constructor's parameter, as `@Injectable()` and `@Inject(REGISTRY)` do. */
function makeInjectable(guard: new (registry: object) => CanActivate): void {
  Injectable()(guard);
  Inject(REGISTRY)(guard, undefined, 0);
}

/**
 * Creates a decorator for classes and methods.
 *
 * @param apply Receives the class, or the function of the method: Nest stores the metadata of a method there.
 */
function routeDecorator(apply: (decorated: Decorated, isMethod: boolean) => void): RouteDecorator {
  return (target: object, _key?: unknown, descriptor?: { value?: unknown }) =>
    apply((descriptor?.value ?? target) as Decorated, descriptor !== undefined);
}

/** Adds to the list of a class or a method. A subclass has the list of its base class, and adds to a copy. */
function addToList(key: string, value: unknown, decorated: Decorated): void {
  SetMetadata(key, [...readList(key, decorated), value])(decorated);
}
