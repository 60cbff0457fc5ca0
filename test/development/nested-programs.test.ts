/**
 * Random programs of nested calls. The same program runs twice on a manual clock: with the aids off, where a call that
 * waits for its own job hangs, and with the aids on. The call that hangs must be the call that rejects.
 */
import fc from 'fast-check';
import { Throttle } from 'headgate';
import { configureDevelopment, NestedAcquireError } from 'headgate/development';
import { ManualClock } from 'headgate/testing';
import { afterEach, expect, test } from 'vitest';

afterEach(() => configureDevelopment({ nested: 'reject' }));

const gate = fc.nat({ max: 1 });
/** A job of the chain: it waits, and then starts the next job of the chain and waits for its end. */
const level = fc.record({ gate, slots: fc.integer({ min: 0, max: 3 }), delay: fc.integer({ min: 0, max: 3 }) });
/** A job beside the chain. */
const other = fc.record({
  gate,
  slots: fc.integer({ min: 0, max: 3 }),
  at: fc.integer({ min: 0, max: 6 }),
  duration: fc.integer({ min: 0, max: 4 }),
});
const program = fc.record({
  concurrency: fc.tuple(fc.integer({ min: 3, max: 5 }), fc.integer({ min: 3, max: 5 })),
  chain: fc.array(level, { minLength: 1, maxLength: 5 }),
  others: fc.array(other, { maxLength: 5 }),
});
type Program = typeof program extends fc.Arbitrary<infer T> ? T : never;

interface Outcome {
  /** The number of levels that have started. */
  readonly started: number;
  readonly end: 'done' | 'hangs' | 'rejects';
}

async function play({ concurrency, chain, others }: Program): Promise<Outcome> {
  const clock = new ManualClock();
  const gates = concurrency.map((limit) => new Throttle(Infinity, limit, 1, { clock }));
  const sleep = (seconds: number): Promise<void> =>
    new Promise((resolve) => void clock.schedule(seconds, () => resolve()));
  for (const { gate: index, slots, at, duration } of others)
    void sleep(at).then(() => gates[index]?.run(() => sleep(duration), 1, { slots }));

  let started = 0;
  const next = async (): Promise<void> => {
    const job = chain[started];
    if (job === undefined) return;
    await gates[job.gate]?.run(
      async () => {
        started++;
        await sleep(job.delay);
        await next();
      },
      1,
      { slots: job.slots },
    );
  };
  let end: Outcome['end'] = 'hangs';
  next().then(
    () => (end = 'done'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(NestedAcquireError);
      end = 'rejects';
    },
  );
  await clock.runAll();
  if (end !== 'hangs') expect(gates.map(({ active, waiting }) => active + waiting)).toEqual([0, 0]);
  return { started, end };
}

test('exactly the calls that would hang reject, and no other program changes', async () => {
  const seen = { done: 0, hangs: 0, rejects: 0 };
  await fc.assert(
    fc.asyncProperty(program, async (each) => {
      configureDevelopment({ nested: 'ignore' });
      const plain = await play(each);
      configureDevelopment({ nested: 'reject' });
      const judged = await play(each);
      seen[plain.end]++;
      expect(judged).toEqual(plain.end === 'hangs' ? { ...plain, end: 'rejects' } : plain);
    }),
    { numRuns: 400 },
  );
  expect(seen.done).toBeGreaterThan(50);
  expect(seen.hangs).toBeGreaterThan(50);
  expect(seen.rejects).toBe(0);
});
