/**
 * 100,000 who wait, some of them on one signal: they leave all at once, one by one, or are granted in a row, and nothing
 * is left of them.
 */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { type Permit, Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { type Dice, type Tally, turn } from './part.js';

const MANY = 100_000;
/** How many of them have a deadline: a manual clock keeps its timers in an array. */
const TIMED = 2_000;

export async function playStorm(dice: Dice, tally: Tally): Promise<void> {
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
  const left = { granted: 0, aborted: 0, late: 0, closed: 0 };
  const wrong: string[] = [];
  const [gone, stays] = [new Error('gone'), new Error('closed')];
  const expected = { aborted: 0, late: 0 };
  const onGrant = (id: number, permit: Permit): void => {
    if (id <= lastGrant) wrong.push(`call ${id} was granted after call ${lastGrant}`);
    lastGrant = id;
    left.granted++;
    permits.push(permit);
  };
  const onRefusal = (error: unknown): void => {
    if (error === gone) left.aborted++;
    else if ((error as { code?: string }).code === 'ERR_THROTTLE_TIMEOUT') left.late++;
    else if ((error as Error).cause === stays) left.closed++;
    else wrong.push(String(error));
  };
  // Paused without an end, no deadline can be met: it would be refused at once. So the pause is a long one.
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
    abort: () => controller.abort(gone),
  }))) {
    abort();
    assert.equal(getEventListeners(signal, 'abort').length, 0);
  }
  assert.equal(throttle.waiting, MANY - expected.aborted);
  await turn();
  assert.equal(left.aborted, expected.aborted);
  // Now those who are left come in, a few thousand of them; each gives its place to the next.
  first?.release();
  throttle.resume();
  const goal = Math.min(MANY - expected.aborted, 5_000);
  for (let steps = 0; left.granted < goal && steps < 20_000; steps++) {
    await (throttle.active < concurrency ? clock.advance(1) : turn());
    for (const permit of permits.splice(0)) permit.release();
  }
  assert.ok(left.granted >= goal, `${left.granted} of ${goal} were granted`);
  throttle.close(stays);
  await turn();
  for (const permit of permits.splice(0)) permit.release();
  await throttle.idle();
  assert.deepEqual(wrong, []);
  assert.equal(left.granted + left.aborted + left.late + left.closed, MANY, 'everyone was answered');
  assert.deepEqual([throttle.active, throttle.waiting, clock.pending], [0, 0, 0], 'what is left');
  tally.operations += MANY;
  tally.grants += left.granted;
  tally.aborts += left.aborted;
  tally.refusals += left.late + left.closed;
}
