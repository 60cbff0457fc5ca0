/**
 * An upstream with the limits of a language model: requests and tokens in a rolling window, and requests at a time. It
 * admits a request only if the true number of its tokens fits, and counts these tokens from the request's arrival.
 */
import { journey, type Wave, work } from './jobs.js';
import type { Quota, Upstream } from './quota.js';
import { tokensOf } from './tokens.js';

export const REQUESTS = 60;
export const TOKENS = 20_000;
/** Requests at a time. */
export const SLOTS = 8;
/** Seconds of the window. */
export const WINDOW = 12;

export const twoLimits: Upstream = {
  title: 'by requests and tokens',
  rule: `${REQUESTS} and 20,000 in any ${WINDOW} s`,
  // One wave: its windows are long, because real windows last much longer than a request.
  waves: [{ first: 15, gap: 9, rest: 225 }],
  rest: 1.1 * WINDOW,
  createQuota: () => {
    const window = rollingWindow();
    let busy = 0;
    return {
      admit(now, job) {
        // Like every upstream, it cannot know when a slot becomes free.
        const wait = busy === SLOTS ? 0.1 : window.admit(now, job);
        if (wait === 0) busy++;
        return wait;
      },
      leave() {
        busy--;
      },
    };
  },
  least: leastTime,
};

/** Remembers the instant and the tokens of each admission. */
function rollingWindow(): Pick<Quota, 'admit'> {
  const admitted: { readonly at: number; readonly tokens: number }[] = [];
  return {
    admit(now, job) {
      while ((admitted[0]?.at ?? Infinity) + WINDOW <= now) admitted.shift();
      const tokens = tokensOf(job);
      let [requests, used] = [admitted.length, admitted.reduce((sum, each) => sum + each.tokens, 0)];
      let wait = 0;
      for (const each of admitted) {
        if (requests < REQUESTS && used + tokens <= TOKENS) break;
        requests--;
        used -= each.tokens;
        // The result is above 0, because the loop above has removed every admission for which it would be 0.
        wait = each.at + WINDOW - now;
      }
      if (wait === 0) admitted.push({ at: now, tokens });
      return wait;
    },
  };
}

/**
 * The time of an oracle: it knows the true costs and all journeys, and sends each job, in order, so that the job
 * arrives at the earliest instant at which the upstream admits it. A job uses its slot during its journeys too.
 */
function leastTime({ first, gap, rest }: Wave, from: number): number {
  const window = rollingWindow();
  const freeAt = Array.from({ length: SLOTS }, () => 0);
  let arrived = 0;
  for (let i = 0; i < first + rest; i++) {
    const slot = freeAt.indexOf(Math.min(...freeAt));
    const job = from + i;
    arrived = Math.max(arrived, Math.max(freeAt[slot] ?? 0, i < first ? 0 : gap) + journey(job, 0, 'there'));
    for (let wait = window.admit(arrived, job); wait > 0; wait = window.admit(arrived, job))
      arrived += Math.max(wait, 1e-9);
    freeAt[slot] = arrived + work(job) + journey(job, 0, 'back');
  }
  return arrived - gap;
}
