/** Random histories of calls, checked against promises 1, 2, 3, 7 and 8 after every step. */
import fc from 'fast-check';
import { ThrottleTimeoutError } from 'headgate';
import { expect, test } from 'vitest';
import { take, takeAll, type Suite } from './suite.js';

/** A call in a random history. */
interface Call {
  readonly id: number;
  readonly cost: number;
  /** The instant at which the call times out. */
  readonly deadline: number;
  readonly stop: AbortController;
  waits: boolean;
  /** Ends the work of a granted call. */
  end: () => void;
}

export function randomHistory({
  section,
  withGate,
  unit,
  early,
  late,
  tolerance,
  features,
  expectWithinRate,
}: Suite): void {
  section('a random history', () => {
    test('slots, rate, order, pauses and deadlines hold, and finally every slot and token is back', async () => {
      const pick = fc.nat();
      const cost = fc.constantFrom(0, 0.1, 0.5, 1, 2);
      const timeout = fc.constantFrom(undefined, undefined, 0, 0.25, 1);
      const command = fc.oneof(
        {
          weight: 8,
          arbitrary: fc.record({
            kind: fc.constant('acquire' as const),
            verb: fc.constantFrom('acquire' as const, 'run' as const),
            cost,
            timeout,
          }),
        },
        { weight: 2, arbitrary: fc.record({ kind: fc.constant('try' as const), cost }) },
        {
          weight: 5,
          arbitrary: fc.record({
            kind: fc.constantFrom('release' as const, 'abort' as const),
            picks: fc.array(pick, { minLength: 1, maxLength: 3 }),
          }),
        },
        {
          weight: 3,
          arbitrary: fc.record({ kind: fc.constant('pass' as const), units: fc.constantFrom(0.1, 0.25, 0.7) }),
        },
        ...(features.pause
          ? [
              {
                weight: 1,
                arbitrary: fc.record({ kind: fc.constant('pause' as const), units: fc.constantFrom(0, 0.1, 0.5) }),
              },
              { weight: 1, arbitrary: fc.record({ kind: fc.constant('resume' as const) }) },
            ]
          : []),
      );
      const limits = fc.record({
        capacity: features.rate ? fc.constantFrom(Infinity, 4, 8) : fc.constant(Infinity),
        concurrency: fc.constantFrom(1, 2, 3),
        burst: fc.constantFrom(2, 4),
      });
      await fc.assert(
        fc.asyncProperty(
          limits,
          fc.array(command, { minLength: 10, maxLength: 30 }),
          async ({ capacity, concurrency, burst }, commands) =>
            withGate(
              { capacity, concurrency, period: unit, ...(capacity === Infinity ? {} : { burst }) },
              async ({ gate, advance, settled, now }) => {
                const calls: Call[] = [];
                const running = new Set<Call>();
                const grants: [number, number][] = [];
                const faults: string[] = [];
                let latestGranted = -1;
                let pausedUntil = -Infinity;

                const call = (of: number, seconds = Infinity): Call => {
                  const next: Call = {
                    id: calls.length,
                    cost: of,
                    deadline: now() + seconds,
                    waits: true,
                    stop: new AbortController(),
                    end: () => {},
                  };
                  calls.push(next);
                  return next;
                };
                const granted = (to: Call, end: () => void): void => {
                  Object.assign(to, { waits: false, end });
                  running.add(to);
                  grants.push([now(), to.cost]);
                  if (running.size > concurrency)
                    faults.push(`${to.id} is active as number ${running.size} of ${concurrency}`);
                  if (to.id < latestGranted) faults.push(`${to.id} was granted after ${latestGranted}`);
                  if (now() < pausedUntil - early)
                    faults.push(`${to.id} was granted at ${now()}, although paused until ${pausedUntil}`);
                  latestGranted = Math.max(latestGranted, to.id);
                };
                const rejected = (waiter: Call, error: unknown): void => {
                  waiter.waits = false;
                  const { aborted, reason } = waiter.stop.signal;
                  const known =
                    (aborted && error === reason) ||
                    (waiter.deadline < Infinity && error instanceof ThrottleTimeoutError);
                  if (!known) faults.push(`${waiter.id} was refused: ${String(error)}`);
                };
                const end = (holder: Call): void => {
                  if (running.delete(holder)) holder.end();
                };
                const check = async (): Promise<void> => {
                  await settled();
                  const waiting = calls.filter((one) => one.waits);
                  for (const { id, deadline } of waiting) {
                    if (id < latestGranted) faults.push(`${id} waits, although ${latestGranted} was granted`);
                    if (now() > deadline + late) faults.push(`${id} waits at ${now()}, past its deadline ${deadline}`);
                  }
                  const idle = waiting.length > 0 && running.size < concurrency && now() > pausedUntil + late;
                  if (idle && capacity === Infinity)
                    faults.push(`${waiting.length} wait, although only ${running.size} run`);
                  expect(faults).toEqual([]);
                };

                for (const one of commands) {
                  if (one.kind === 'acquire') {
                    const { verb, cost: of, timeout: units } = one;
                    const made = call(of, units === undefined ? Infinity : units * unit);
                    const options = {
                      signal: made.stop.signal,
                      timeout: units === undefined ? undefined : units * unit,
                    };
                    const refused = (error: unknown): void => rejected(made, error);
                    if (verb === 'acquire')
                      gate.acquire(of, options).then((permit) => granted(made, () => permit.release()), refused);
                    else
                      gate
                        .run(() => new Promise<void>((resolve) => granted(made, resolve)), of, options)
                        .catch(refused);
                  } else if (one.kind === 'try') {
                    const tried = call(one.cost);
                    const permit = await gate.tryAcquire(one.cost);
                    if (permit === undefined) tried.waits = false;
                    else granted(tried, () => permit.release());
                  } else if (one.kind === 'release') {
                    for (const which of one.picks) if (running.size > 0) end([...running][which % running.size]!);
                  } else if (one.kind === 'abort') {
                    for (const which of one.picks) calls[which % calls.length]?.stop.abort(new Error('enough'));
                  } else if (one.kind === 'pass') {
                    await advance(one.units * unit);
                  } else if (one.kind === 'pause') {
                    const until = now() + one.units * unit;
                    await gate.pause(one.units * unit);
                    await settled();
                    if (one.units > 0) pausedUntil = Math.max(pausedUntil, until);
                  } else {
                    pausedUntil = -Infinity;
                    await gate.resume();
                  }
                  // Consecutive acquire and run calls share a tick: the check runs after the next other command.
                  if (one.kind !== 'acquire') await check();
                }
                for (let round = 0; round < 200 && (running.size > 0 || calls.some((one) => one.waits)); round++) {
                  for (const one of running) end(one);
                  await advance(0.25 * unit);
                  await check();
                }
                expect(calls.filter((one) => one.waits)).toEqual([]);
                expectWithinRate(grants, capacity === Infinity ? Infinity : burst, capacity / unit);
                await advance(unit);
                const slots = await takeAll(gate, 0);
                expect(slots).toHaveLength(concurrency);
                slots[0]!.release();
                await take(gate, capacity === Infinity ? 1 : burst);
              },
            )(),
        ),
        // A history in real time takes seconds, so a failed history is reported without shrinking.
        { numRuns: tolerance === 0 ? 200 : 5, endOnFailure: tolerance > 0 },
      );
    });
  });
}
