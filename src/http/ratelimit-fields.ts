/** The `RateLimit` and `RateLimit-Policy` fields of a response, from the numbers that the gates show. */
import type { Cost } from '../core/cost.js';
import { sizeOf } from '../core/limits.js';
import { isPromiseLike } from '../core/promise-like.js';
import { writeRateLimit } from '../web/ratelimit-headers.js';

/** Header fields, by name. */
export type Fields = Readonly<Record<string, string>>;

export const NO_FIELDS: Fields = {};

/** A further rate of a gate. */
interface FurtherRate {
  readonly name?: string | undefined;
  readonly capacity: number;
  readonly period?: number | undefined;
  readonly burst?: number | undefined;
}

/** The numbers that a gate may show. */
export type GateNumbers = Partial<
  Record<'capacity' | 'period' | 'burst' | 'tokens' | 'concurrency' | 'active', number>
> & {
  name?: string | undefined;
  also?: readonly FurtherRate[];
  /** The level of each named rate. */
  levels?: Readonly<Record<string, number>>;
  estimateWait?(cost: Cost): number;
};

/** The list members of one gate: for `RateLimit-Policy`, and for `RateLimit`. Each named rate has members of its own. */
export interface LimitFields {
  readonly policy: string;
  readonly state: string;
}

/**
 * Returns the list members for one gate and its named rates, or `undefined` if the gate shows no numbers or has no limit. A gate from
 * another package can use the names of the numbers for other members, so this function may throw.
 *
 * @param defaultName The name for a gate without a name.
 * @param retryAfter Seconds, if the gate has refused the request.
 */
export function writeLimitFields(
  gate: GateNumbers,
  defaultName: string,
  retryAfter: number | undefined,
): LimitFields | undefined {
  // A gate that reads its numbers asynchronously cannot show them in this response. Its rejection must not be
  // unhandled.
  if (isPromiseLike(gate)) void gate.then(undefined, () => {});
  const main = writeMainLimit(gate, defaultName, retryAfter);
  let all = main;
  for (const fields of writeNamedRates(gate, defaultName)) all = all === undefined ? fields : join(all, fields);
  return all;
}

function writeMainLimit(
  gate: GateNumbers,
  defaultName: string,
  retryAfter: number | undefined,
): LimitFields | undefined {
  const { capacity = 0, period = 0, burst = capacity, tokens, concurrency = 0, active, name = defaultName } = gate;
  const hasRate = capacity > 0 && capacity < Infinity && period > 0 && tokens !== undefined;
  if (!hasRate && !(concurrency > 0 && concurrency < Infinity && active !== undefined)) return undefined;
  const refused = retryAfter !== undefined;
  // The bucket is full when the largest possible cost would fit.
  const full = namedRatesOf(gate).length > 0 ? { cost: burst } : burst;
  const untilFull =
    hasRate && !refused ? (gate.estimateWait?.(full) ?? ((burst - tokens) * period) / capacity) : undefined;
  return writeRateLimit({
    name,
    limit: hasRate ? capacity : concurrency,
    window: hasRate ? period : undefined,
    // A refused request needs more than the tokens that are left.
    remaining: refused ? 0 : hasRate ? tokens : concurrency - active!,
    reset: retryAfter ?? (untilFull === Infinity ? undefined : untilFull),
  });
}

/** The members of the named rates with a limit. The rate `tokens` of the gate `llm` has the name `llm-tokens`. */
function writeNamedRates(gate: GateNumbers, defaultName: string): LimitFields[] {
  return namedRatesOf(gate).map((rate) => {
    const { name, capacity, period = 1 } = rate;
    const untilFull = gate.estimateWait?.({ cost: 0, [name]: sizeOf(rate) });
    return writeRateLimit({
      name: `${gate.name ?? defaultName}-${name}`,
      limit: capacity,
      window: period,
      remaining: gate.levels?.[name] ?? 0,
      reset: untilFull === Infinity ? undefined : untilFull,
    });
  });
}

function namedRatesOf({ also = [], levels }: GateNumbers): (FurtherRate & { readonly name: string })[] {
  if (levels === undefined || also.length === 0) return [];
  return also.flatMap((rate) =>
    rate.name === undefined || rate.capacity === Infinity ? [] : [{ ...rate, name: rate.name }],
  );
}

function join(first: LimitFields, second: LimitFields): LimitFields {
  return { policy: `${first.policy}, ${second.policy}`, state: `${first.state}, ${second.state}` };
}

/** Joins the list members of all limits that a request has passed; `last` belongs to one more limit. */
export function joinLimitFields(
  limits: readonly { readonly fields: LimitFields | undefined }[],
  last?: LimitFields,
): Fields {
  let all = last;
  for (let index = limits.length - 1; index >= 0; index--) {
    const { fields } = limits[index]!;
    if (fields !== undefined) all = all === undefined ? fields : join(fields, all);
  }
  return all === undefined ? NO_FIELDS : { 'RateLimit-Policy': all.policy, RateLimit: all.state };
}
