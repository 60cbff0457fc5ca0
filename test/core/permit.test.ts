/** What a permit tells the gate that gave it out. */
import { expect, test, vi } from 'vitest';
import { Grant } from '../../src/core/permit.js';

const setUp = (): { permit: Grant; release: ReturnType<typeof vi.fn>; settle: ReturnType<typeof vi.fn> } => {
  const [release, settle] = [vi.fn(), vi.fn()];
  return { permit: new Grant({ onRelease: release, onSettle: settle }, 3, 0.5, 10), release, settle };
};

test.each<[string, number, number[]]>([
  ['more', 5, [2]],
  ['less', 1, [-2]],
  ['as much as was asked for: nothing to tell', 3, []],
])('settled at %s', (_, cost, differences) => {
  const { permit, release, settle } = setUp();
  permit.settle(cost);
  permit.settle(7);
  permit.refund();
  expect(settle.mock.calls).toEqual(differences.map((difference) => [permit, difference]));
  expect(permit).toMatchObject({ cost, waited: 0.5, serial: 10, released: false });
  expect(release).not.toHaveBeenCalled();
});

test('released once, by whatever comes first', async () => {
  for (const way of [
    (permit: Grant) => permit.release(),
    (permit: Grant) => permit[Symbol.dispose](),
    (permit: Grant) => permit[Symbol.asyncDispose](),
  ]) {
    const { permit, release, settle } = setUp();
    await way(permit);
    expect(permit.released).toBe(true);
    permit.release();
    permit[Symbol.dispose]();
    await permit[Symbol.asyncDispose]();
    expect(release.mock.calls).toEqual([[permit]]);
    expect(settle).not.toHaveBeenCalled();
  }
});
