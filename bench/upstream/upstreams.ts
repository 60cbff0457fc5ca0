/**
 * The upstreams: three kinds with one limit, and one with several. The quotas share no code with headgate, and count each request when it arrives. A refusal
 * causes no ban, and uses nothing of the quota.
 */
import { journey, REST, type Wave, WAVES, work } from './jobs.js';
import type { Quota, Upstream } from './quota.js';
import { twoLimits } from './two-limits.js';

/** Requests per second: in any second for the window, at first and for each second for the bucket. */
export const RATE = 50;
/** Requests at a time. */
export const SLOTS = 10;

/** `plain` is `window` for clients whose settings know only the number and the period. */
export type UpstreamId = 'window' | 'bucket' | 'concurrency' | 'plain' | 'both';

const WORK = { waves: WAVES, rest: REST } as const;

export const upstreams: Readonly<Record<UpstreamId, Upstream>> = {
  window: {
    title: 'by rolling window',
    rule: `at most ${RATE} in any second`,
    ...WORK,
    createQuota: rollingWindow,
    least: (wave) => leastTimeOf(rollingWindow(), wave),
  },
  plain: {
    title: 'by rolling window, plainly set',
    rule: `“${RATE} per second”`,
    ...WORK,
    createQuota: rollingWindow,
    least: (wave) => leastTimeOf(rollingWindow(), wave),
  },
  bucket: {
    title: 'by token bucket',
    rule: `a bucket of ${RATE}, refilled at ${RATE} a second`,
    ...WORK,
    createQuota: tokenBucket,
    least: (wave) => leastTimeOf(tokenBucket(), wave),
  },
  concurrency: {
    title: 'by concurrency',
    rule: `at most ${SLOTS} at a time`,
    ...WORK,
    createQuota: slots,
    least: leastTimeWithSlots,
  },
  both: twoLimits,
};

/** Remembers the instant of each admission. */
function rollingWindow(): Quota {
  const admitted: number[] = [];
  return {
    admit(now) {
      while ((admitted[0] ?? Infinity) + 1 <= now) admitted.shift();
      // The result is above 0, because the loop has removed every admission for which it would be 0.
      if (admitted.length === RATE) return (admitted[0] ?? NaN) + 1 - now;
      admitted.push(now);
      return 0;
    },
    leave() {},
  };
}

/** A bucket that starts full. */
function tokenBucket(): Quota {
  let level = RATE;
  let since = -Infinity;
  return {
    admit(now) {
      level = Math.min(RATE, level + (now - since) * RATE);
      since = now;
      // The tolerance covers rounding.
      if (level < 1 - 1e-9) return (1 - level) / RATE;
      level--;
      return 0;
    },
    leave() {},
  };
}

/** The wait that it states is the average duration of the work, since it cannot know when a slot becomes free. */
function slots(): Quota {
  let busy = 0;
  return {
    admit() {
      if (busy === SLOTS) return 0.1;
      busy++;
      return 0;
    },
    leave() {
      busy--;
    },
  };
}

/** The time in which the quota admits the rest of a wave from a client that sends each job at the earliest instant. */
function leastTimeOf(quota: Quota, { first, gap, rest }: Wave): number {
  for (let i = 0; i < first; i++) if (quota.admit(0, i) > 0) throw new Error('the first jobs of a wave are refused');
  let now = gap;
  for (let i = 0; i < rest;) {
    const wait = quota.admit(now, first + i);
    if (wait === 0) i++;
    else now += Math.max(wait, 1e-9);
  }
  return now - gap;
}

/**
 * The time with all slots in use from the first instant to the last. A job uses its slot during its journeys too,
 * because a client knows of a free slot only when the response is back.
 */
function leastTimeWithSlots({ first, gap, rest }: Wave, from: number): number {
  const freeAt = Array.from({ length: SLOTS }, () => 0);
  let last = 0;
  for (let i = 0; i < first + rest; i++) {
    const slot = freeAt.indexOf(Math.min(...freeAt));
    const job = from + i;
    const admitted = Math.max(freeAt[slot] ?? 0, i < first ? 0 : gap) + journey(job, 0, 'there');
    freeAt[slot] = admitted + work(job) + journey(job, 0, 'back');
    last = Math.max(last, admitted);
  }
  return last - gap;
}
