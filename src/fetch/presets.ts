/**
 * Options for the APIs of OpenAI, Anthropic and GitHub, as plain data for `throttledFetch(gate, { ...openai })`. The
 * names of the header fields are in src/web/dialects.ts.
 */
import { readWait } from '../web/retry-after.js';
import type { Refusal, ResponseLike } from './options.js';
import type { SentRequest } from './request-copy.js';

/** Options for one API. They fit the `fetch` of every client. */
export interface Preset {
  /** `true`: the gate learns from the header fields of the API. */
  readonly learn: true;
  /** The statuses of refusals. */
  readonly statuses: readonly number[];
  /** Decides where a status does not. */
  readonly refusal: (response: ResponseLike, request: SentRequest) => Promise<Refusal>;
}

/** What a preset knows about the refusals of an API. */
interface RefusalRules {
  /** A status that means a refusal only if the header fields state a wait. */
  readonly statusWithWait?: number;
  /** A 429 whose body contains this text is an error: a later request fails in the same way. */
  readonly permanent?: string;
}

/**
 * Options for the API of OpenAI and for compatible APIs. Requests count for the main rate, and tokens for the rate named
 * `tokens`, if the gate has one.
 *
 * A 429 for an exhausted budget (`insufficient_quota`) is no refusal, because waiting does not help.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { openai, throttledFetch } from 'headgate/fetch';
 *
 * const llm = new Throttle(500, 20, 60, { also: [{ name: 'tokens', capacity: 200_000, period: 60 }] });
 * const limitedFetch = throttledFetch(llm, { ...openai, cost: { tokens: 40_000 } });
 * await limitedFetch('https://api.openai.com/v1/responses', { method: 'POST', body: '{}' });
 * console.log(Math.round(llm.levels.tokens / 10_000)); // → 16
 */
export const openai: Preset = /* @__PURE__ */ createPreset([429, 503], { permanent: 'insufficient_quota' });

/**
 * Options for the API of Anthropic. Requests count for the main rate, and tokens for the rates named `input-tokens`,
 * `output-tokens` and `tokens`, as far as the gate has them.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { anthropic, throttledFetch } from 'headgate/fetch';
 *
 * const also = [
 *   { name: 'input-tokens', capacity: 30_000, period: 60 },
 *   { name: 'output-tokens', capacity: 8_000, period: 60 },
 * ];
 * const llm = new Throttle(50, 10, 60, { also });
 * const limitedFetch = throttledFetch(llm, { ...anthropic, cost: { 'input-tokens': 2_000, 'output-tokens': 500 } });
 * console.log((await limitedFetch('https://api.anthropic.com/v1/messages')).status); // → 200
 */
export const anthropic: Preset = /* @__PURE__ */ createPreset([429, 503, 529]);

/**
 * Options for the API of GitHub. Requests count for the main rate. The other resources of GitHub, such as `search` and
 * `graphql`, count for the rates of these names, if the gate has them.
 *
 * A 403 is a refusal if it states a wait. A 403 for a missing permission states none.
 *
 * @example
 * import { Throttle } from 'headgate';
 * import { github, throttledFetch } from 'headgate/fetch';
 *
 * const limitedFetch = throttledFetch(new Throttle(5_000, 10, 3_600), { ...github });
 * console.log((await limitedFetch('https://api.github.com/repos/nodejs/node')).status); // → 200
 */
export const github: Preset = /* @__PURE__ */ createPreset([429, 503], { statusWithWait: 403 });

function createPreset(statuses: readonly number[], { statusWithWait, permanent }: RefusalRules = {}): Preset {
  return {
    learn: true,
    statuses,
    async refusal(response) {
      const { status, headers } = response;
      if (status === statusWithWait) return readWait(headers, Date.now()) !== undefined;
      return status === 429 && permanent !== undefined && (await bodyOf(response)).includes(permanent)
        ? false
        : undefined;
    },
  };
}

/** The body of a clone; empty if the body cannot be read. */
async function bodyOf(response: ResponseLike): Promise<string> {
  try {
    return await (response as Response).clone().text();
  } catch {
    return '';
  }
}
