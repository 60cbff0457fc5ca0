/** The decisions of Redis on the calls of one process, as they arrive in replies and messages. */
import { describe, expect, test } from 'vitest';
import { busyScene, grant, Scene } from './participant-scene.js';

describe('grants', () => {
  test('a message grants a waiter, and the same grant again has no effect', async () => {
    const scene = await busyScene();
    await scene.message(grant('1', 2));
    await scene.message(grant('1', 2));
    expect([scene.order, scene.participant.held, scene.batches]).toEqual(['held a', 2, []]);
  });

  test('a message that overtakes the reply grants the call', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.message(grant('0'));
    expect(scene.order).toBe('a');
    await scene.reply('A 1', 'Q 0 11');
    expect([scene.participant.held, scene.participant.waiting, scene.batches]).toEqual([1, 0, []]);
  });

  test('a grant for a call that has ended is ignored, since its cancellation is on its way', async () => {
    const scene = new Scene();
    const controller = new AbortController();
    await scene.acquire('a', { signal: controller.signal });
    controller.abort();
    await scene.reply('A 1', grant('0'));
    expect([scene.order, scene.participant.held, scene.batches]).toEqual(['a!', 0, ['c.0 1: C0']]);
  });

  test('a grant from before the return of a waiter to the queue is void', async () => {
    const scene = await busyScene();
    await scene.message('Q 1 21 50', grant('1', 2, 49));
    expect(scene.order).toBe('held');
    await scene.message(grant('1', 2, 50));
    expect(scene.order).toBe('held a');
  });
});

describe('refusals', () => {
  test.each([
    ['L 0 3000000 4 2', 'ERR_THROTTLE_TIMEOUT'],
    ['F 0 3000000 4 2', 'ERR_THROTTLE_QUEUE_FULL'],
    ['N 0', 'ERR_THROTTLE_QUEUE_FULL'],
  ])('the event "%s" rejects the call with %s', async (event, code) => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.reply('A 1', event);
    expect(scene.outcomes.error('a')).toMatchObject({ code });
    expect([scene.participant.waiting, scene.batches]).toEqual([0, []]);
  });

  test('a call with a timeout that was refused earlier gets a timeout error', async () => {
    const scene = new Scene();
    await scene.acquire('a', { timeout: 5 });
    await scene.reply('A 1', 'N 0');
    expect(scene.outcomes.error('a')).toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
    expect(scene.clock.pending).toBe(0);
  });

  test('a cost above the burst rejects with a RangeError, for a waiter too', async () => {
    const scene = await busyScene();
    await scene.message('O 1 0.5');
    expect(scene.outcomes.error('a')).toBeInstanceOf(RangeError);
  });

  test.each(['L 0 0 1 0', 'F 0 0 1 0', 'N 0', 'O 0 1'])('a refused tryAcquire resolves: "%s"', async (event) => {
    const scene = new Scene();
    await scene.acquire('a', { timeout: 0 }, true);
    await scene.reply('A 1', event);
    expect([scene.order, scene.outcomes.permit('a')]).toEqual(['a', undefined]);
  });

  test('a waiter that Redis does not know any more waits for the next list', async () => {
    const scene = await busyScene();
    scene.participant.reconcile();
    await scene.reply('A 1', 'N 1', 'Q 2 12');
    expect([scene.order, scene.participant.waiting]).toEqual(['held', 2]);
  });

  test('events for unknown calls and lines that are no events are ignored', async () => {
    const scene = await busyScene();
    await scene.message('Q zz 5', 'L zz 0 0 0', 'X zz', 'G zz 1 1 1 0', 'hello', '', 'V x', 'H x y');
    expect([scene.order, scene.participant.held, scene.participant.waiting]).toEqual(['held', 1, 2]);
    expect(scene.wakeup.at).toBe(Infinity);
  });
});
