/** The log of grants by itself: corrections outside the recorded history change nothing. */
import { expect, test } from 'vitest';
import { GrantLog } from '../../src/core/settlement-log.js';

const limits = { rate: 1, burst: 10 };

test('an empty log has no latest grant, and its bucket is full', () => {
  const log = new GrantLog(0);
  expect([log.beganAt, log.latestAt, log.replay(limits)]).toEqual([undefined, -Infinity, 10]);
});

test('a correction of a grant before the log began changes nothing', () => {
  const log = new GrantLog(5);
  log.add(1, 4, 6, limits);
  log.correct(3, 2);
  expect(log.replay(limits)).toBe(6);
});

test('a correction of a recorded grant changes the level', () => {
  const log = new GrantLog(5);
  log.add(1, 4, 6, limits);
  log.correct(6, -3);
  expect(log.replay(limits)).toBe(9);
});
