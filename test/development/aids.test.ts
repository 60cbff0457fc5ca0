/** The aids where calls, permits and stacks are unknown to them. */
import { Throttle } from 'headgate';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Aids } from '../../src/development/aids.js';
import { placeOf } from '../../src/development/messages.js';
import { captureFrames } from '../../src/development/stack.js';

test('calls and permits from before the aids were loaded are ignored', () => {
  const aids = new Aids();
  aids.granted(undefined, { slots: 1 }, undefined);
  aids.refused({});
  aids.released({});
  aids.joined({}, [{}]);
  expect(aids.runJob(() => 'done', {})).toBe('done');
  expect(aids.openCalls(new Throttle(1))).toEqual({ permits: [], waiting: [] });
});

test('a grant to a waiter from before the aids were loaded has no stack', () => {
  const aids = new Aids();
  const gate = new Throttle({ concurrency: 1 });
  const permit = { slots: [1, 2] };
  aids.granted(gate, permit, {});
  expect(aids.openCalls(gate).permits).toMatchObject([{ frames: [], slots: 2 }]);
  aids.released(permit);
  expect(aids.openCalls(gate).permits).toEqual([]);
});

test('a place without a frame is unknown', () => {
  expect(placeOf([])).toBe('an unknown place');
});

test.each([
  ['captureStackTrace is absent', 1, () => Reflect.deleteProperty(Error, 'captureStackTrace')],
  ['a stack is no text', 0, () => (Error.prepareStackTrace = () => 1)],
])('where %s, %d frames of this file are known', (_, known, change) => {
  const { captureStackTrace, prepareStackTrace } = Error;
  const hasOwn = Object.hasOwn(Error, 'prepareStackTrace');
  onTestFinished(() => {
    Error.captureStackTrace = captureStackTrace;
    if (hasOwn) Error.prepareStackTrace = prepareStackTrace;
    else Reflect.deleteProperty(Error, 'prepareStackTrace');
    vi.restoreAllMocks();
  });
  change();
  expect(captureFrames().filter((frame) => frame.includes('aids.test.ts'))).toHaveLength(known);
});
