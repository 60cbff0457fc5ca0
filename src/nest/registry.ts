/** The limits of one application: found by name, applied to requests, and drained at shutdown. */
import { type ExecutionContext, Logger } from '@nestjs/common';
import type { Gate, KeyedGate } from '../core/gate.js';
import { type Admission, createAdmission } from './admission.js';
import {
  checkModuleOptions,
  type CheckedModule,
  DEFAULT_LIMIT,
  type HeadgateOptions,
  type HttpMessages,
  type LimitOverrides,
  type LimitSettings,
  type NamedLimit,
} from './options.js';

/** The limit of a guard: a limit of the module, or the options that a decorator has received. */
export interface LimitReference {
  readonly limit: string | LimitSettings;
  readonly overrides?: LimitOverrides | undefined;
}

/** The reference to the limit of {@link LimitGuard}. */
export const DEFAULT_REFERENCE: LimitReference = { limit: DEFAULT_LIMIT };

/** The provider token of the registry. Two copies of the package share it. */
export const REGISTRY: unique symbol = Symbol.for('headgate.nest.registry') as never;

interface DrainableGate {
  readonly closed?: unknown;
  drain?(): PromiseLike<unknown>;
  close(reason?: unknown): unknown;
}

const logger = new Logger('headgate');

export class LimitRegistry {
  /** Whether a {@link LimitGuard} exists in the application. */
  guardExists = false;
  readonly #module: CheckedModule;
  /** An application may be closed twice. Its gates are drained once. */
  #drained: Promise<void> | undefined;
  /** The created limits, by name or by reference. A request that passes one limit twice counts once. */
  readonly #admissions = new Map<string | LimitReference, Admission>();

  /** @throws {RangeError | TypeError} An option is out of range. */
  constructor(options: HeadgateOptions) {
    this.#module = checkModuleOptions(options);
    for (const [name, { gate }] of this.#module.limits)
      if ((gate as DrainableGate).closed === true)
        throw new TypeError(
          `The gate of the limit "${name}" is closed. A shutdown closes the gates of its application. Create the ` +
            'gates in the useFactory of HeadgateModule.forRootAsync, so that each application has gates of its own',
        );
  }

  /** Whether the module has a limit that applies to every route. */
  get hasDefault(): boolean {
    return this.#module.limits.has(DEFAULT_LIMIT);
  }

  /** Returns the gate of a limit. @throws {TypeError} No limit has this name. */
  gateOf(name: string): Gate | KeyedGate {
    return this.#find(name).gate;
  }

  /** Creates the limit of a reference, unless it exists. @throws {RangeError | TypeError} The reference is invalid. */
  prepare(reference: LimitReference): Admission {
    const { limit, overrides } = reference;
    const id = typeof limit === 'string' && overrides === undefined ? limit : reference;
    const known = this.#admissions.get(id);
    if (known !== undefined) return known;
    const settings = typeof limit === 'string' ? this.#find(limit).settings : limit;
    const created = createAdmission(withOverrides(settings, overrides));
    this.#admissions.set(id, created);
    return created;
  }

  /**
   * Applies a limit to the request of a context.
   *
   * @param isExplicit Whether a decorator requires the limit: then a context without an HTTP request is an error.
   * @returns A promise that rejects with an `HttpException` if the limit refuses the request.
   */
  async admit(reference: LimitReference, context: ExecutionContext, isExplicit: boolean): Promise<void> {
    const messages = this.#messagesOf(context, isExplicit);
    if (messages !== undefined) await this.prepare(reference)(context, messages);
  }

  /** Refuses new calls, and waits for the queued and running work of all gates, for the time of the option `drain`. */
  drain(): Promise<void> {
    this.#drained ??= this.#forEachGate(async (gate, name, seconds) => {
      if (typeof gate.drain !== 'function') return;
      if (!(await settlesWithin(seconds, () => gate.drain?.())))
        logger.warn(`The work of the limit "${name}" has not finished within ${seconds} s of the shutdown`);
      await settlesWithin(seconds, () => gate.close('the application shuts down'));
    });
    return this.#drained;
  }

  /** Closes all gates. */
  close(): Promise<void> {
    return this.#forEachGate(async (gate, _, seconds) => {
      await settlesWithin(seconds, () => gate.close('the application has shut down'));
    });
  }

  #find(name: string): NamedLimit {
    const found = this.#module.limits.get(name);
    if (found !== undefined) return found;
    const names = [...this.#module.limits.keys()].map((known) => JSON.stringify(known)).join(', ');
    throw new TypeError(
      `no limit has the name ${JSON.stringify(name)}; HeadgateModule has ${names === '' ? 'no limits' : names}`,
    );
  }

  #messagesOf(context: ExecutionContext, isExplicit: boolean): HttpMessages | undefined {
    const type: string = context.getType();
    if (type === 'http') {
      const http = context.switchToHttp();
      return { request: http.getRequest<object>(), response: http.getResponse<object>() };
    }
    if (this.#module.http !== undefined) return this.#module.http(context);
    if (!isExplicit) return undefined;
    throw new TypeError(
      `@Limit of ${context.getClass().name}.${context.getHandler().name} counts HTTP requests, but the context has ` +
        `the type "${type}". Inject the gate by @InjectGate and call its run method, or set the option http of ` +
        'HeadgateModule',
    );
  }

  /** Calls `action` for each gate, with the time that a shutdown may take. */
  async #forEachGate(action: (gate: DrainableGate, name: string, seconds: number) => Promise<void>): Promise<void> {
    const { limits, drain } = this.#module;
    if (drain === false) return;
    const names = new Map<DrainableGate, string>();
    for (const [name, { gate }] of limits) names.set(gate, name);
    await Promise.all([...names].map(([gate, name]) => action(gate, name, drain)));
  }
}

/** The settings of a limit for one route. An override of `undefined` keeps the setting. */
function withOverrides(settings: LimitSettings, overrides: LimitOverrides = {}): LimitSettings {
  const given = Object.entries(overrides).filter(([, value]) => value !== undefined);
  return { ...settings, ...Object.fromEntries(given) };
}

/**
 * Calls `action` and waits for its result, for at most `seconds`. An error is logged: it must not stop the shutdown.
 *
 * @returns Whether the result has settled in time.
 */
function settlesWithin(seconds: number, action: () => unknown): Promise<boolean> {
  return new Promise((resolve) => {
    // The timer keeps the process alive, so that the later hooks of the application run.
    const timer: unknown = setTimeout(() => resolve(false), seconds * 1_000);
    const settled = (): void => {
      clearTimeout(timer as number);
      resolve(true);
    };
    Promise.resolve()
      .then(action)
      .then(settled, (error: unknown) => {
        logger.error(error);
        settled();
      });
  });
}
