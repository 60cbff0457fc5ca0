/**
 * How gates and permits appear in `console.log` and in JSON. `toJSON` returns a plain object, and the output of
 * `console.log` shows the same object. Both never throw, also if a clock or a getter of a user does. Numbers that change
 * with the time are rounded to thousandths, for a reader.
 */

/** The fields of {@link Throttle.toJSON}, in this order. JSON has no `Infinity`: `JSON.stringify` writes `null`. */
export interface ThrottleData {
  /** The name given in the options. */
  name?: string;
  /** Tokens per period. `Infinity`, or `null` in JSON: no rate limit. */
  capacity: number;
  /** The largest number of jobs at a time, as configured: `0` and `Infinity` mean no limit. */
  concurrency: number;
  /** The period in seconds. */
  period: number;
  /** The size of the bucket. Absent without a rate. */
  burst?: number;
  /** The tokens available now. Absent without a rate. */
  tokens?: number;
  /** The tokens of each named rate. Absent without named rates. */
  levels?: Readonly<Record<string, number>>;
  /** The number of occupied slots. */
  active: number;
  /** The number of waiters. */
  waiting: number;
  /** Seconds until the pause ends. Absent without a pause. */
  pausedFor?: number;
  /** `true` after `close` or `drain`. Absent before. */
  closed?: true;
}

/** The fields of {@link Permit.toJSON}, in this order. */
export interface PermitData {
  /** Tokens of the main rate. */
  cost: number;
  /** Tokens of each named rate. Absent without named rates. */
  costs?: Readonly<Record<string, number>>;
  /** On Redis: the number of the first slot. */
  slot?: number;
  /** The number of slots; on Redis, their numbers. */
  slots?: number | readonly number[];
  /**
   * Seconds since the grant. Absent if the gate did not read its clock for the grant: a permit that was granted at once,
   * without a rate, a pause or a `ttl`.
   */
  age?: number;
  /** Whether the permit no longer holds its slots. */
  released: boolean;
}

/** The values of fields that are left out, because they are the normal case. */
const NORMAL: Readonly<Record<string, unknown>> = { burst: Infinity, tokens: Infinity, pausedFor: 0, closed: false };

/** The fields that change with the time. */
const CHANGING = 'tokens levels pausedFor age';

/** Rounds a number, or the numbers of a record, to thousandths. */
function rounded(value: unknown): unknown {
  return typeof value === 'number'
    ? Math.round(value * 1e3) / 1e3
    : Object.fromEntries(Object.entries(value as object).map(([name, each]) => [name, rounded(each)]));
}

/**
 * Reads properties of `source` in the order of `names`, which are separated by spaces. Leaves out `undefined`, empty
 * records, the values of the normal case, and a property whose getter throws.
 */
export function readFields(source: object, names: string): object {
  const fields: Record<string, unknown> = {};
  for (const name of names.split(' ')) {
    try {
      const value = (source as Record<string, unknown>)[name];
      if (value === undefined || value === NORMAL[name]) continue;
      if (Object(value) === value && Object.keys(value as object).length === 0) continue;
      fields[name] = CHANGING.includes(name) ? rounded(value) : value;
    } catch {
      // A clock of a user may throw. The other fields are still of use.
    }
  }
  return fields;
}

/** The key of the method that `console.log` and `util.inspect` call, on Node, Deno and Bun. */
const INSPECT: unique symbol = /* @__PURE__ */ Symbol.for('nodejs.util.inspect.custom') as never;

/** The part of the options of `util.inspect` that is used here. */
interface InspectOptions {
  stylize(text: string, style: string): string;
}

/**
 * Adds the method that shows an object as its class name and the fields of `toJSON`, or of `view`. Every constructor call
 * repeats it: code that runs at import would prevent tree shaking.
 */
export function addInspection<T extends { toJSON(): object }>(
  prototype: T,
  className: string,
  view: (object: T) => object = (object) => object.toJSON(),
): void {
  if (Object.hasOwn(prototype, INSPECT)) return;
  const value = function (
    this: T,
    depth: number | null,
    options: InspectOptions,
    inspect?: (value: object, options: object) => string,
  ): unknown {
    if (depth !== null && depth < 0) return options.stylize(`[${className}]`, 'special');
    let fields: object = {};
    try {
      fields = view(this);
    } catch {
      // `this` is the prototype itself, or a proxy.
    }
    return inspect === undefined ? fields : `${className} ${inspect(fields, { ...options, depth })}`;
  };
  Object.defineProperty(prototype, INSPECT, { value, writable: true, configurable: true });
}
