/**
 * The upstreams, three kinds of them. A judge shares no code with the accused: each keeps its own books, and looks at a request when
 * it arrives. Whom it refuses is not held against the client: there is no ban, and a refusal costs nothing upstream.
 */
import { journey, type Wave, work } from './jobs.js';

/** So many requests are let in per second: by the window in any second, by the bucket at first and for each second. */
export const RATE = 50;
/** So many are worked on at a time. */
export const SLOTS = 10;

/** `plain` is `window` once more, for clients that were told no more than its two numbers. */
export type UpstreamId = 'window' | 'bucket' | 'concurrency' | 'plain';

export interface Judge {
  /** Lets a request in (0), or tells in how many seconds it is worth asking again. */
  admit(now: number): number;
  /** A request that was let in has been worked on. */
  leave(): void;
}

export interface Upstream {
  readonly title: string;
  readonly rule: string;
  readonly judge: () => Judge;
  /**
   * Seconds from when the rest of a wave is there until its last job is let in, if nobody could be quicker.
   * @param from The number of the wave's first job.
   */
  readonly least: (wave: Wave, from: number) => number;
}

export const upstreams: Readonly<Record<UpstreamId, Upstream>> = {
  window: {
    title: 'by rolling window',
    rule: `at most ${RATE} in any second`,
    judge: rollingWindow,
    least: (wave) => askedAtEveryInstant(rollingWindow(), wave),
  },
  plain: {
    title: 'by rolling window, plainly set',
    rule: `“${RATE} per second”`,
    judge: rollingWindow,
    least: (wave) => askedAtEveryInstant(rollingWindow(), wave),
  },
  bucket: {
    title: 'by token bucket',
    rule: `a bucket of ${RATE}, refilled at ${RATE} a second`,
    judge: tokenBucket,
    least: (wave) => askedAtEveryInstant(tokenBucket(), wave),
  },
  concurrency: {
    title: 'by concurrency',
    rule: `at most ${SLOTS} at a time`,
    judge: slots,
    least: alwaysAllSlots,
  },
};

/** Remembers when it let somebody in. */
function rollingWindow(): Judge {
  const admitted: number[] = [];
  return {
    admit(now) {
      while ((admitted[0] ?? Infinity) + 1 <= now) admitted.shift();
      // Above zero, as the oldest still counts: both compare the same two numbers.
      if (admitted.length === RATE) return (admitted[0] ?? NaN) + 1 - now;
      admitted.push(now);
      return 0;
    },
    leave() {},
  };
}

/** Starts full. */
function tokenBucket(): Judge {
  let level = RATE;
  let since = -Infinity;
  return {
    admit(now) {
      level = Math.min(RATE, level + (now - since) * RATE);
      since = now;
      // A billionth is rounding.
      if (level < 1 - 1e-9) return (1 - level) / RATE;
      level--;
      return 0;
    },
    leave() {},
  };
}

/** When a slot will be free it cannot tell: it names what the work takes on average. */
function slots(): Judge {
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

/** The judge itself says how soon it would let all of them in, if it had them at its door. */
function askedAtEveryInstant(judge: Judge, { first, gap, rest }: Wave): number {
  for (let i = 0; i < first; i++) if (judge.admit(0) > 0) throw new Error('the first jobs of a wave are refused');
  let now = gap;
  for (let i = 0; i < rest;) {
    const wait = judge.admit(now);
    if (wait === 0) i++;
    else now += Math.max(wait, 1e-9);
  }
  return now - gap;
}

/**
 * As many under way as there are slots, from the first moment to the last. A job has its slot while it travels, too:
 * no client knows of a free one before the answer is back.
 */
function alwaysAllSlots({ first, gap, rest }: Wave, from: number): number {
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
