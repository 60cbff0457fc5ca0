/** A released slot is handed on, lingers, or goes back to Redis. */
import { describe, expect, test } from 'vitest';
import { busyScene, grant, Scene, TTL } from './participant-scene.js';

describe('handing on', () => {
  test('released slots go to the waiters in ticket order, and Redis is informed', async () => {
    const scene = await busyScene();
    scene.permit('held').release();
    await Promise.resolve();
    expect(scene.participant.waiting).toBe(1);
    await scene.settle();
    await scene.release('a');
    expect(scene.order).toBe('held a b');
    expect(scene.batches).toEqual(['c.0 1: C1', 'c.0 2: C2']);
    expect([scene.permit('b').grant.serial, scene.permit('b').slot]).toEqual(['0', 1]);
  });

  test('no slot goes to a waiter behind the row', async () => {
    const scene = await busyScene({}, 'A 1 11');
    await scene.release('held');
    await scene.release('a');
    expect(scene.order).toBe('held a');
    expect(scene.batches).toEqual(['c.0 1: C1', 'c.0 2: R0']);
  });

  test.each([
    ['without a permission', async (): Promise<Scene> => busyScene({}, 'A 1')],
    [
      'a second after the batch that brought the permission',
      async (): Promise<Scene> => {
        const scene = await busyScene();
        await scene.clock.advance(1);
        return scene;
      },
    ],
    [
      'after a withdrawal',
      async (): Promise<Scene> => {
        const scene = await busyScene();
        await scene.message('V 2');
        return scene;
      },
    ],
  ])('a slot goes back to Redis %s', async (_, setUp) => {
    const scene = await setUp();
    await scene.release('held');
    expect([scene.order, scene.batches]).toEqual(['held', ['c.0 1: R0']]);
  });

  test('a slot is not handed on after an own change, until Redis has confirmed it', async () => {
    const scene = await busyScene();
    scene.outcomes.follow('pause', scene.participant.confirm({ kind: 'pause', seconds: 1 }));
    await scene.settle();
    await scene.release('held');
    expect(scene.batches).toEqual(['c.0 1: P', 'c.0 2: R0']);
    await scene.reply('A 2');
    expect(scene.order).toBe('held pause');
  });

  test('a lease that may have expired is not handed on', async () => {
    const scene = await busyScene();
    Object.defineProperty(scene.clock, 'now', { value: () => 100 + 0.9 * TTL });
    scene.permit('held').release();
    expect(scene.participant.waiting).toBe(2);
  });

  test('a grant for a waiter that has been served by handing on is ignored', async () => {
    const scene = await busyScene();
    await scene.release('held');
    await scene.message(grant('1', 2));
    expect([scene.order, scene.participant.held, scene.permit('a').slot]).toEqual(['held a', 1, 1]);
  });

  test('nothing is handed on after close', async () => {
    const scene = await busyScene();
    scene.participant.close(new Error('closed'));
    await scene.release('held');
    expect(scene.order).toBe('held a! b!');
    expect(scene.batches).toEqual(['c.0 1: C1 C2 R0']);
  });
});

describe('lingering slots', () => {
  /** A released slot lingers. */
  async function lingering(linger = 0.5): Promise<Scene> {
    const scene = new Scene({ linger });
    await scene.acquire('a');
    await scene.reply('L 1', grant('0', 4));
    await scene.release('a');
    expect([scene.batches, scene.participant.held]).toEqual([[], 0]);
    return scene;
  }

  test('the next call takes the slot, with its number, without a call of Redis', async () => {
    const scene = await lingering();
    await scene.acquire('b');
    expect([scene.order, scene.batches, scene.permit('b').slot]).toEqual(['a b', [], 4]);
  });

  test('the deadline returns the slot', async () => {
    const scene = await lingering();
    await scene.clock.advance(0.5);
    expect(scene.batches).toEqual(['c.0 1: R0']);
  });

  test('a recall returns the slot', async () => {
    const scene = await lingering();
    await scene.message('V 2');
    expect(scene.batches).toEqual(['c.0 1: R0']);
  });

  test('a recall that arrives again has no effect', async () => {
    const scene = await lingering();
    await scene.message('V 1');
    expect(scene.batches).toEqual([]);
  });

  test('a reply without the permission returns the slot, since the message of a recall may be lost', async () => {
    const scene = await lingering(60);
    await scene.clock.advance(TTL / 3);
    expect(scene.batches).toEqual(['c.0 1:']);
    await scene.reply('A 1');
    expect(scene.batches).toEqual(['c.0 2: R0']);
  });

  test('without a young permission, the slot goes back ahead of the next request', async () => {
    const scene = await lingering(60);
    await scene.clock.advance(1);
    await scene.acquire('b');
    expect(scene.batches).toEqual(['c.0 1: R0 A1']);
  });

  test('a slot that Redis has given away is dropped', async () => {
    const scene = await lingering(60);
    await scene.message('X 0');
    await scene.acquire('b');
    expect(scene.batches).toEqual(['c.0 1: A1']);
  });

  test('an unrenewed slot is returned when the leases count as lost', async () => {
    const scene = await lingering(60);
    await scene.clock.advance(TTL / 3);
    await scene.clock.advance(0.9 * TTL - TTL / 3);
    expect(scene.batches).toEqual(['c.0 1:', 'c.0 2: R0']);
  });

  test('a throttle that waits for the end of all work returns the slot', async () => {
    const scene = await lingering(60);
    scene.participant.awaitIdle();
    await scene.settle();
    expect(scene.batches).toEqual(['c.0 1: R0']);
    await scene.reply('L 1');
    expect(scene.idles).toBe(1);
  });
});

describe('lost leases', () => {
  test('a lost permit aborts its signal, frees its slot once, and a later release has no effect', async () => {
    const scene = await busyScene({}, 'A 1');
    const permit = scene.permit('held');
    await scene.message('X 0');
    await scene.message('X 0');
    expect(permit.signal.reason).toMatchObject({ code: 'ERR_THROTTLE_LEASE_LOST' });
    expect(scene.batches).toEqual(['c.0 1: R0']);
    await scene.release('held');
    expect(scene.batches).toEqual(['c.0 1: R0']);
  });

  test('a settlement is sent only for a grant with a number', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.acquire('b');
    await scene.reply('A 1', grant('0'));
    await scene.reply('A 1', 'G 1 2 5 1 9');
    scene.permit('a').settle(0);
    scene.permit('b').settle(0);
    await scene.settle();
    expect(scene.batches).toEqual(['c.0 2: S']);
  });
});
