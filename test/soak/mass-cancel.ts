/** 100,000 waiters, some on shared signals: most abort at once, some are granted, and close rejects the rest. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { type Permit, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { type Dice, type Tally, turn } from './part.js';

const MANY = 100_000;
/** The number of waiters with a deadline. It is small, because a manual clock keeps its timers in an array. */
const TIMED = 2_000;

export async function playMassCancel(dice: Dice, tally: Tally): Promise<void> {
  const clock = new ManualClock();
  const concurrency = dice.pick([1, 3, 1_000]);
  const throttle = new Throttle(dice.pick([Infinity, 10, 1e6]), concurrency, 1, {
    clock,
    burst: dice.pick([5, 1_000]),
  });
  const signals = Array.from({ length: dice.pick([1, 2, 5]) }, () => new AbortController());
  const listeners = (): number[] => signals.map(({ signal }) => getEventListeners(signal, 'abort').length);
  const oneIn = dice.pick([1, 2, 10]);
  const first = throttle.tryAcquire(1);
  throttle.pause();
  let lastGrant = -1;
  const permits: Permit[] = [];
  const counts = { granted: 0, aborted: 0, late: 0, closed: 0 };
  const failures: string[] = [];
  const [aborted, closed] = [new Error('aborted'), new Error('closed')];
  const expected = { aborted: 0, late: 0 };
  const onGrant = (id: number, permit: Permit): void => {
    if (id <= lastGrant) failures.push(`call ${id} was granted after call ${lastGrant}`);
    lastGrant = id;
    counts.granted++;
    permits.push(permit);
  };
  const onRefusal = (error: unknown): void => {
    if (error === aborted) counts.aborted++;
    else if ((error as { code?: string }).code === 'ERR_THROTTLE_TIMEOUT') counts.late++;
    else if ((error as Error).cause === closed) counts.closed++;
    else failures.push(String(error));
  };
  // An endless pause would refuse every deadline at once, so the pause is long but finite.
  throttle.resume();
  throttle.pause(10);
  for (let id = 0; id < MANY; id++) {
    const signal = id % oneIn === 0 ? signals[dice.below(signals.length)]?.signal : undefined;
    const timeout = signal === undefined && id % (MANY / TIMED) === 1 ? 1e9 : undefined;
    if (signal !== undefined) expected.aborted++;
    const options = { signal, timeout };
    if (id % 3 === 0) throttle.run((permit) => onGrant(id, permit), 1, options).catch(onRefusal);
    else throttle.acquire(1, options).then((permit) => onGrant(id, permit), onRefusal);
  }
  assert.equal(throttle.waiting, MANY);
  assert.ok(
    listeners().every((count) => count <= 1),
    `${listeners().join()} listeners`,
  );
  for (const { signal, abort } of signals.map((controller) => ({
    signal: controller.signal,
    abort: () => controller.abort(aborted),
  }))) {
    abort();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  }
  assert.equal(throttle.waiting, MANY - expected.aborted);
  await turn();
  assert.equal(counts.aborted, expected.aborted);
  // Now a few thousand of the remaining waiters are granted. Each one releases its slot to the next.
  first?.release();
  throttle.resume();
  const goal = Math.min(MANY - expected.aborted, 5_000);
  for (let steps = 0; counts.granted < goal && steps < 20_000; steps++) {
    await (throttle.active < concurrency ? clock.advance(1) : turn());
    for (const permit of permits.splice(0)) permit.release();
  }
  assert.ok(counts.granted >= goal, `${counts.granted} of ${goal} were granted`);
  throttle.close(closed);
  await turn();
  for (const permit of permits.splice(0)) permit.release();
  await throttle.idle();
  assert.deepEqual(failures, []);
  assert.equal(counts.granted + counts.aborted + counts.late + counts.closed, MANY, 'settled calls');
  assert.deepEqual([throttle.active, throttle.waiting, clock.pending], [0, 0, 0], 'what is left');
  tally.operations += MANY;
  tally.grants += counts.granted;
  tally.aborts += counts.aborted;
  tally.refusals += counts.late + counts.closed;
}
