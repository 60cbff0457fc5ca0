/**
 * The limits of a throttle: the rates and the concurrency in force, the budgets that enforce the rates, and the check of
 * a call against both. The throttle decides when a call is granted; this class decides whether a call can ever be.
 */
import type { Budget } from './budget.js';
import { costsByName, type NamedRates, readCosts, Terms, tooLargeError, tooManySlotsError } from './cost.js';
import type { AcquireOptions } from './gate.js';
import {
  type CheckedLimits,
  checkLimits,
  combineBudgets,
  createBudget,
  describeLimits,
  type Settings,
} from './limits.js';
import { checkOptionNames } from './option-names.js';
import { printable } from './refusals.js';
import type { Limits } from './throttle-options.js';
import { checkAcquireOptions, checkCost, checkObject } from './validation.js';

export class ThrottleLimits implements NamedRates {
  readonly settings: Settings;
  /** The main rate and the concurrency. */
  current: CheckedLimits;
  /** The budget of `capacity` per `period`; `undefined` if the capacity is `Infinity`. */
  #ownBudget: Budget | undefined;
  /** The budgets of the rates in `also`; `undefined` for a rate without a limit. */
  readonly #alsoBudgets: readonly (Budget | undefined)[];
  /** All budgets combined; `undefined` without a rate limit. */
  budget: Budget | undefined;
  /** The largest cost that can be granted. */
  #maxCost = 0;
  /** The largest cost that can be granted, as a vector. */
  maxCosts: readonly number[] = [];
  readonly isNamed: boolean;

  /** Creates a full budget for each rate. With `model`, copies the budgets of `model`, which takes less time. */
  constructor(settings: Settings, current: CheckedLimits, model?: ThrottleLimits) {
    this.settings = settings;
    this.current = current;
    this.isNamed = settings.names.length > 0;
    if (model === undefined) {
      this.#ownBudget = createBudget(current);
      this.#alsoBudgets = settings.also.map((rate) => createBudget(rate));
    } else {
      this.#ownBudget = model.#ownBudget?.fresh();
      const also = model.#alsoBudgets;
      this.#alsoBudgets = also.length === 0 ? also : also.map((budget) => budget?.fresh());
    }
    this.#combine();
  }

  /** Full budgets for the same limits, without a new check. */
  fresh(): ThrottleLimits {
    return new ThrottleLimits(this.settings, this.current, this);
  }

  get names(): readonly string[] {
    return this.settings.names;
  }

  get concurrency(): number {
    return this.current.concurrency;
  }

  /** The smallest burst of the rates without a name. */
  get burst(): number {
    return Math.min(this.budget?.burst ?? Infinity, this.current.burst ?? Infinity);
  }

  /** The tokens of each named rate at `now`. */
  levelsByName(now: number): Readonly<Record<string, number>> {
    const levels = [0];
    this.settings.also.forEach(({ name }, index) => {
      if (name !== undefined) levels.push(this.#alsoBudgets[index]?.level(now) ?? Infinity);
    });
    return costsByName(this.names, levels);
  }

  /**
   * Checks new limits, before anything changes. A limit that is left out stays as it is.
   *
   * @throws {RangeError | TypeError} A limit is out of range.
   */
  check(limits: Limits): CheckedLimits {
    checkObject('limits', limits);
    checkOptionNames('configure', limits, ['capacity', 'concurrency', 'period', 'burst']);
    const { current } = this;
    const { capacity = current.capacity, concurrency = current.concurrency, period = current.period } = limits;
    const burst = 'burst' in limits ? limits.burst : current.burst;
    return checkLimits({ ...current, capacity, concurrency, period, burst });
  }

  /** Replaces the limits at `now`. `serial` is the serial number of the latest grant. */
  replace(checked: CheckedLimits, now: number, serial: number): void {
    this.#ownBudget = createBudget(checked, now, serial, this.#ownBudget);
    this.current = checked;
    this.#combine();
  }

  #combine(): void {
    this.budget = combineBudgets(this.#ownBudget, this.#alsoBudgets, this.settings);
    this.#maxCost = Math.min(this.burst, Number.MAX_VALUE);
    this.maxCosts = [this.#maxCost, ...this.settings.bursts];
  }

  /**
   * Checks the arguments of a call. Returns `undefined` for a call with a number as its cost and one slot in a throttle
   * without named rates.
   *
   * @throws {RangeError | TypeError} The call can never be granted, or an option is invalid.
   */
  readCall(cost: unknown, options?: AcquireOptions): Terms | undefined {
    const isNumber = !this.isNamed && typeof cost === 'number';
    if (isNumber && !(cost >= 0 && cost <= this.#maxCost)) throw this.#tooLargeError(cost);
    if (isNumber && options === undefined) return undefined;
    const costs = isNumber ? undefined : readCosts(cost, this);
    if (options !== undefined) checkAcquireOptions(options);
    const slots = options?.slots ?? 1;
    if (isNumber && slots === 1) return undefined;
    const error = tooManySlotsError(slots, this);
    if (error !== undefined) throw error;
    return new Terms(costs ?? [cost as number], slots);
  }

  /** The error of a waiter that the present limits can never grant. */
  refusalOf({ cost, terms }: { cost: number; terms: Terms | undefined }): Error | undefined {
    return cost > this.#maxCost ? this.#tooLargeError(cost) : tooManySlotsError(terms?.slots ?? 1, this);
  }

  #tooLargeError(cost: number): Error {
    checkCost(cost);
    return tooLargeError('cost', cost, this.burst, this.describe());
  }

  /** The name and the limits of the throttle, for error messages. */
  describe(): string {
    const { name, also } = this.settings;
    const limits = describeLimits([this.current, ...also], this.concurrency);
    return `Throttle${name === undefined ? '' : ` ${printable(name)}`} (${limits})`;
  }
}
