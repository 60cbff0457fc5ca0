/** The module that declares the limits of an application, and drains their gates at shutdown. */
import {
  type BeforeApplicationShutdown,
  type DynamicModule,
  type FactoryProvider,
  Inject,
  Logger,
  Module,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { DiscoveryModule, DiscoveryService, MetadataScanner } from '@nestjs/core';
import { checkOptionNames } from '../core/option-names.js';
import { checkFunction, checkObject } from '../core/validation.js';
import { getGateToken, referencesOf } from './guard.js';
import { type HeadgateAsyncOptions, type HeadgateOptions, limitNames } from './options.js';
import { LimitRegistry, REGISTRY } from './registry.js';

/** The provider token of the options. A test may override it: `overrideProvider(HEADGATE_OPTIONS).useValue(…)`. */
export const HEADGATE_OPTIONS = 'headgate options';

type Handler = (...args: never[]) => unknown;

/**
 * Declares the limits of an application. {@link LimitGuard} applies the limit `default` to all routes, `@Limit` applies
 * limits to a route, and `@InjectGate` injects gates. At shutdown, the module drains and closes the gates.
 */
export class HeadgateModule
  implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly #registry: LimitRegistry;
  readonly #discovery: DiscoveryService;
  readonly #scanner: MetadataScanner;

  /**
   * @param registry The limits of the application.
   * @param discovery Lists the controllers and providers.
   * @param scanner Lists the methods of a class.
   */
  constructor(registry: object, discovery: DiscoveryService, scanner: MetadataScanner) {
    this.#registry = registry as LimitRegistry;
    this.#discovery = discovery;
    this.#scanner = scanner;
  }

  /**
   * Declares the limits.
   *
   * @param options The limits and further settings: {@link HeadgateOptions}. With `global: false`, a module sees the
   *   limits only if it imports the result. A shutdown closes the gates, so they serve one application: a test that
   *   creates its application repeatedly needs {@link HeadgateModule.forRootAsync}.
   * @throws {RangeError | TypeError} An option of the module is out of range. The options of the limits are checked
   *   when the application starts.
   *
   * @example
   * import { KeyedThrottle, Throttle } from 'headgate';
   * import { concurrencyLimit } from 'headgate/http';
   * import { HeadgateModule } from 'headgate/nest';
   *
   * // for the imports of @Module
   * export const limits = HeadgateModule.forRoot({
   *   // The limit "default": each address, 100 requests per minute.
   *   keyed: new KeyedThrottle(100, 0, 60),
   *   key: 'ip',
   *   limits: {
   *     exports: concurrencyLimit({ key: 'user', maxConcurrent: 2 }), // for @Limit('exports')
   *     mail: new Throttle(10, 2), // for @InjectGate('mail')
   *   },
   * });
   */
  static forRoot(options: HeadgateOptions & { global?: boolean | undefined } = {}): DynamicModule {
    const names = limitNames(options);
    return dynamicModule({ provide: HEADGATE_OPTIONS, useFactory: () => options }, names, options.global);
  }

  /**
   * Declares the limits that a factory returns, for instance from a configuration service. Each application calls the
   * factory, so it has gates of its own.
   *
   * @param options The factory, its dependencies, and the names for `@InjectGate`: {@link HeadgateAsyncOptions}.
   * @throws {TypeError} `useFactory` is no function.
   *
   * @example
   * import { KeyedThrottle } from 'headgate';
   * import { HeadgateModule } from 'headgate/nest';
   *
   * export const limits = HeadgateModule.forRootAsync({
   *   inject: ['PER_MINUTE'], // the token of a provider
   *   useFactory: (perMinute: number) => ({ keyed: new KeyedThrottle(perMinute, 0, 60), key: 'ip' }),
   * });
   */
  static forRootAsync(options: HeadgateAsyncOptions): DynamicModule {
    checkObject('options', options);
    checkOptionNames('HeadgateModule.forRootAsync', options, ['imports', 'inject', 'useFactory', 'names', 'global']);
    const { imports, inject = [], useFactory, names = [], global } = options;
    checkFunction('useFactory', useFactory);
    return dynamicModule(
      { provide: HEADGATE_OPTIONS, inject, useFactory: useFactory as Handler },
      names,
      global,
      imports,
    );
  }

  /** Checks the limits of all decorators. @throws {RangeError | TypeError} A decorator names an unknown limit. */
  onModuleInit(): void {
    for (const { metatype } of [...this.#discovery.getControllers(), ...this.#discovery.getProviders()]) {
      if (typeof metatype !== 'function') continue;
      this.#check(metatype.name, metatype);
      const prototype = (metatype.prototype ?? null) as Record<string, Handler> | null;
      for (const name of this.#scanner.getAllMethodNames(prototype))
        this.#check(`${metatype.name}.${name}`, prototype![name]!);
    }
  }

  /** Warns if the module has a limit for all routes but no guard that applies it. */
  onApplicationBootstrap(): void {
    if (this.#registry.hasDefault && !this.#registry.guardExists)
      new Logger('headgate').warn(
        'The limit "default" applies to no route. Add { provide: APP_GUARD, useClass: LimitGuard } to the providers ' +
          'of a module, or @UseGuards(LimitGuard) to controllers',
      );
  }

  /** Drains the gates, for at most the time of the option `drain`. The server still accepts connections. */
  beforeApplicationShutdown(): Promise<void> {
    return this.#registry.drain();
  }

  /** Closes the gates. The server has closed its connections. */
  onApplicationShutdown(): Promise<void> {
    return this.#registry.close();
  }

  #check(place: string, target: Handler | object): void {
    try {
      const { limits, skipped } = referencesOf(target);
      for (const reference of limits) this.#registry.prepare(reference);
      for (const name of skipped) this.#registry.gateOf(name);
    } catch (error) {
      (error as Error).message = `${place}: ${(error as Error).message}`;
      throw error;
    }
  }
}
Module({})(HeadgateModule);
for (const [index, token] of [REGISTRY, DiscoveryService, MetadataScanner].entries())
  Inject(token)(HeadgateModule, undefined, index);

function dynamicModule(
  options: FactoryProvider,
  names: readonly string[],
  global: boolean = true,
  imports: HeadgateAsyncOptions['imports'] = [],
): DynamicModule {
  const registry: FactoryProvider = {
    provide: REGISTRY,
    inject: [HEADGATE_OPTIONS],
    useFactory: (checked: HeadgateOptions) => new LimitRegistry(checked),
  };
  const gates = names.map((name): FactoryProvider => ({
    provide: getGateToken(name),
    inject: [REGISTRY],
    useFactory: (limits: LimitRegistry) => limits.gateOf(name),
  }));
  return {
    module: HeadgateModule,
    global,
    imports: [DiscoveryModule, ...imports],
    providers: [options, registry, ...gates],
    exports: [REGISTRY, ...gates.map(({ provide }) => provide)],
  };
}
