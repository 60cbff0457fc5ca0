/** The `RateLimit` and `RateLimit-Policy` fields of a response, from the numbers that the gates show. */
import { writeRateLimit } from '../web/ratelimit-headers.js';

/** Header fields, by name. */
export type Fields = Readonly<Record<string, string>>;

export const NO_FIELDS: Fields = {};

/** The numbers that a gate may show. */
export type GateNumbers = Partial<
  Record<'capacity' | 'period' | 'burst' | 'tokens' | 'concurrency' | 'active', number>
> & {
  name?: string | undefined;
  estimateWait?(cost: number): number;
};

/** The list members of one limit: one for `RateLimit-Policy`, and one for `RateLimit`. */
export interface LimitFields {
  readonly policy: string;
  readonly state: string;
}

/**
 * Returns the list members for one gate, or `undefined` if the gate shows no numbers or has no limit. A gate from
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
  if (typeof (gate as Partial<Promise<unknown>>).then === 'function')
    void (gate as Promise<unknown>).then(undefined, () => {});
  const { capacity = 0, period = 0, burst = capacity, tokens, concurrency = 0, active, name = defaultName } = gate;
  const hasRate = capacity > 0 && capacity < Infinity && period > 0 && tokens !== undefined;
  if (!hasRate && !(concurrency > 0 && concurrency < Infinity && active !== undefined)) return undefined;
  const refused = retryAfter !== undefined;
  // The bucket is full when the largest possible cost would fit.
  const untilFull =
    hasRate && !refused ? (gate.estimateWait?.(burst) ?? ((burst - tokens) * period) / capacity) : undefined;
  return writeRateLimit({
    name,
    limit: hasRate ? capacity : concurrency,
    window: hasRate ? period : undefined,
    // A refused request needs more than the tokens that are left.
    remaining: refused ? 0 : hasRate ? tokens : concurrency - active!,
    reset: retryAfter ?? (untilFull === Infinity ? undefined : untilFull),
  });
}

/** Joins the list members of all limits that a request has passed; `last` belongs to one more limit. */
export function joinLimitFields(
  limits: readonly { readonly fields: LimitFields | undefined }[],
  last?: LimitFields,
): Fields {
  let all = last;
  for (let index = limits.length - 1; index >= 0; index--) {
    const { fields } = limits[index]!;
    if (fields !== undefined)
      all =
        all === undefined
          ? fields
          : { policy: `${fields.policy}, ${all.policy}`, state: `${fields.state}, ${all.state}` };
  }
  return all === undefined ? NO_FIELDS : { 'RateLimit-Policy': all.policy, RateLimit: all.state };
}
