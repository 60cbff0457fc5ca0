/**
 * The README's recipe for the tokens of a language model: 100,000 tokens per minute, 4,000 reserved per call, 1,200
 * used and settled at the end of the call. The test measures the share of the allowed rate that a steady backlog uses.
 */
import { Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { describe, expect, test } from 'vitest';
import { BucketReplay, type LoggedGrant } from './replay.js';

const CAPACITY = 100_000;
const PERIOD = 60;
const RESERVED = 4_000;
const USED = 1_200;
/** The number of calls that always wait. */
const BACKLOG = 10;
const HOUR = 3_600;
/** The measured time. It excludes the first minutes, which spend the burst of a new bucket. */
const [FROM, TO] = [HOUR / 6, 2 * HOUR];

/** The tokens that calls at these instants use, relative to the allowed rate. */
const shareOf = (instants: readonly number[]): number =>
  (instants.filter((at) => at >= FROM && at < TO).length * USED) / ((CAPACITY / PERIOD) * (TO - FROM));

/** The instants at which a throttle grants calls that take `seconds`. */
async function grantsOfThrottle(seconds: number): Promise<number[]> {
  const clock = new ManualClock();
  const tokens = new Throttle(CAPACITY, 0, PERIOD, { clock });
  const instants: number[] = [];
  const call = async (): Promise<void> => {
    await tokens.run(async (permit) => {
      instants.push(clock.now());
      void call().catch(() => {});
      await new Promise<void>((resolve) => void clock.schedule(seconds, resolve));
      permit.settle(USED);
    }, RESERVED);
  };
  for (let waiting = 0; waiting < BACKLOG; waiting++) void call().catch(() => {});
  await clock.advance(TO);
  tokens.close();
  await clock.advance(seconds);
  expect(tokens.active).toBe(0);
  return instants;
}

/** The instants at which exact accounting grants the calls: each once the replay of the log has its tokens. */
function grantsOfReplay(seconds: number): number[] {
  const replay = new BucketReplay({ capacity: CAPACITY, period: PERIOD });
  const instants: number[] = [];
  const running: LoggedGrant[] = [];
  for (let now = 0; now < TO;) {
    const opens = replay.opensAt(now, RESERVED);
    const ends = (running[0]?.at ?? Infinity) + seconds;
    now = Math.min(opens, ends);
    if (ends <= opens) {
      const ended = running.shift() as LoggedGrant;
      ended.cost = USED;
      replay.settled(ended);
    } else {
      const grant = { at: now, cost: RESERVED };
      replay.add(grant);
      running.push(grant);
      instants.push(now);
    }
  }
  return instants;
}

describe('calls of a model with 100,000 tokens per minute, 4,000 reserved and 1,200 used (FAULTS 8)', () => {
  test.each([20, 30, 60])(
    'calls of %s s use the same share of the rate as exact accounting, within one percent',
    async (seconds) => {
      const [real, exact] = [shareOf(await grantsOfThrottle(seconds)), shareOf(grantsOfReplay(seconds))];
      console.log(
        `calls of ${seconds} s: ${(real * 100).toFixed(1)} % of the allowed rate, ` +
          `by exact accounting ${(exact * 100).toFixed(1)} %`,
      );
      expect(Math.abs(real / exact - 1)).toBeLessThan(0.01);
    },
  );
});
