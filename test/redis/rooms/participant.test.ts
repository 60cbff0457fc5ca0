/** One throttle object as a participant of the fleet: its renewals, its epochs, its failures, and its end. */
import { refused } from '../../../src/core/events.js';
import { describe, expect, test } from 'vitest';
import { busyScene, grant, Scene, TTL } from './participant-scene.js';

describe('requests', () => {
  test('a granted call holds a permit, and its release ends the participation', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    expect(scene.batches).toEqual(['c.0 0: A0']);
    await scene.reply('A 1', grant('0', 3));
    expect([scene.order, scene.permit('a').slot, scene.participant.held]).toEqual(['a', 3, 1]);
    await scene.release('a');
    await scene.reply('A 1');
    expect([scene.participant.isRegistered, scene.idles, scene.clock.pending]).toEqual([false, 1, 0]);
  });

  test('a timeout before the reply lets the reply decide', async () => {
    const scene = new Scene();
    await scene.acquire('a', { timeout: 1 });
    await scene.clock.advance(1);
    expect(scene.order).toBe('');
    await scene.reply('A 1', 'Q 0 11');
    expect(scene.order).toBe('a!');
    expect(scene.batches).toEqual(['c.0 1: C0']);
  });

  test('a timeout in the queue refuses the call, and Redis removes its place', async () => {
    const scene = new Scene();
    await scene.acquire('a', { timeout: 1 });
    await scene.reply('A 1', 'Q 0 11');
    await scene.clock.advance(1);
    expect(scene.outcomes.error('a')).toMatchObject({ code: 'ERR_THROTTLE_TIMEOUT' });
    expect(scene.batches).toEqual(['c.0 1: C0']);
  });

  test('a signal that throws rejects the call, and nothing is sent', async () => {
    const scene = new Scene();
    const { signal } = new AbortController();
    Object.defineProperty(signal, 'addEventListener', {
      value: () => {
        throw new Error('faulty');
      },
    });
    await scene.acquire('a', { signal });
    expect([scene.order, scene.batches, scene.participant.isRegistered]).toEqual(['a!', [], false]);
  });

  test('a call that is aborted before its tick ends is never sent', async () => {
    const scene = new Scene();
    const controller = new AbortController();
    const acquired = scene.acquire('a', { signal: controller.signal });
    controller.abort();
    await acquired;
    expect([scene.order, scene.batches, scene.participant.isRegistered]).toEqual(['a!', [], false]);
  });

  test('close refuses each call once, though a subscriber aborts another call meanwhile', async () => {
    const scene = new Scene();
    const controller = new AbortController();
    await scene.acquire('a');
    await scene.acquire('b', { signal: controller.signal });
    let refusals = 0;
    const subscriber = (): void => {
      refusals++;
      controller.abort();
    };
    refused.subscribe(subscriber);
    try {
      scene.participant.close(new Error('closed'));
    } finally {
      refused.unsubscribe(subscriber);
    }
    await scene.settle();
    expect([refusals, scene.order]).toEqual([2, 'b! a!']);
  });
});

describe('renewals', () => {
  test('holders renew with an empty batch every third of the ttl', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.reply('A 1', grant('0'));
    await scene.clock.advance(TTL / 3 - 0.01);
    expect(scene.batches).toEqual([]);
    await scene.clock.advance(0.01);
    expect(scene.batches).toEqual(['c.0 1:']);
  });

  test('waiters are listed, and a repeated grant shows that messages do not arrive (FAULTS 56)', async () => {
    const scene = await busyScene();
    await scene.clock.advance(TTL / 3);
    expect(scene.batches).toEqual(['c.0 1: W1 W2']);
    await scene.reply('A 1', 'g 1 2 5 1 0', 'Q 2 12');
    expect([scene.order, scene.distrusts]).toEqual(['held a', 1]);
  });

  test('permits that cannot be renewed are lost after nine tenths of the ttl', async () => {
    const scene = await busyScene();
    const { signal } = scene.permit('held');
    await scene.clock.advance(0.9 * TTL - 0.01);
    expect(signal.aborted).toBe(false);
    await scene.clock.advance(0.02);
    expect([signal.aborted, scene.participant.held]).toEqual([true, 0]);
  });

  test('permit.signal shows the loss before the late alarm does', async () => {
    const scene = await busyScene();
    const permit = scene.permit('held');
    Object.defineProperty(scene.clock, 'now', { value: () => 100 + TTL });
    expect(permit.signal.aborted).toBe(true);
  });

  test('a gap in the messages lists the waiters at once', async () => {
    const scene = await busyScene();
    scene.participant.reconcile();
    expect(scene.batches).toEqual(['c.0 1: W1 W2']);
  });

  test('a gap in the messages checks the leases of a process without waiters', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.reply('A 1', grant('0'));
    scene.participant.reconcile();
    expect(scene.batches).toEqual(['c.0 1:']);
  });

  test('a gap in the messages before the reply to a request lists the call once Redis has queued it', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    scene.participant.reconcile();
    expect(scene.batches).toEqual(['c.0 0: A0']);
    await scene.reply('A 1', 'Q 0 11');
    expect(scene.batches).toEqual(['c.0 1: W0']);
    await scene.reply('A 1', 'Q 0 11');
    expect(scene.batches).toEqual([]);
  });

  test('after a gap in the messages, the waiters are listed once, though several requests are unanswered', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    scene.participant.reconcile();
    await scene.acquire('b');
    await scene.reply('A 1', 'Q 0 11');
    expect(scene.batches).toEqual(['c.0 1: A1', 'c.0 2: W0']);
    await scene.reply('A 1', 'Q 1 12');
    expect(scene.batches).toEqual(['c.0 2: W0']);
    await scene.reply('A 1', 'Q 0 11');
    expect(scene.batches).toEqual([]);
  });

  test('a gap in the messages before the reply that grants a request causes no call', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    scene.participant.reconcile();
    await scene.reply('A 1', grant('0'));
    expect([scene.order, scene.batches]).toEqual(['a', []]);
  });

  test('a failed batch is sent again as soon as messages arrive', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.reply('A 1', grant('0'));
    await scene.release('a');
    await scene.fail();
    scene.participant.reconcile();
    expect(scene.batches).toEqual(['c.0 1: R0']);
  });

  test('a gap in the messages causes no call of a process that holds nothing', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.reply('A 1', grant('0'));
    await scene.release('a');
    expect(scene.batches).toEqual(['c.0 1: R0']);
    scene.participant.reconcile();
    expect(scene.batches).toEqual(['c.0 1: R0']);
  });

  test('a list that could not be sent during a failure follows as soon as Redis replies', async () => {
    const scene = await busyScene();
    scene.participant.reconcile();
    await scene.fail();
    scene.participant.reconcile();
    await scene.reply('A 1', 'Q 1 11', 'Q 2 12');
    await scene.clock.advance(0.01);
    expect(scene.batches).toEqual(['c.0 2: W1 W2']);
  });

  test('a wake-up calls the script once', async () => {
    const scene = await busyScene();
    await scene.message('H 500000 105000000');
    await scene.clock.advance(0.5);
    expect(scene.batches).toEqual(['c.0 1:']);
    expect(scene.wakeup.confirmed).toBe(105_000_000);
  });
});

describe('late replies and messages', () => {
  /** The reply of a call arrives when its lease may have expired. */
  async function lateScene(timeout?: number): Promise<Scene> {
    const scene = new Scene();
    await scene.acquire('a', timeout === undefined ? {} : { timeout });
    await scene.clock.advance(0.9 * TTL);
    await scene.reply('A 1', grant('0'));
    return scene;
  }

  test('a late grant is not taken, and the list that follows brings the permit or a place', async () => {
    const scene = await lateScene();
    expect(scene.order).toBe('');
    expect(scene.batches).toEqual(['c.0 1:', 'c.0 2: W0']);
    await scene.reply('A 1');
    await scene.reply('A 1', 'g 0 1 1 1 0');
    expect([scene.order, scene.distrusts]).toEqual(['a', 1]);
  });

  test('a call with a late grant requests anew if Redis has forgotten the process', async () => {
    const scene = await lateScene();
    await scene.reply('A 1');
    await scene.reply('U');
    expect(scene.batches).toEqual(['c.0 2: W0']);
    await scene.reply('U');
    expect(scene.batches).toEqual(['c.1 0: Ec.0 A0']);
  });

  test('a call with a late grant after its timeout is refused, and the grant is taken back', async () => {
    const scene = await lateScene(1);
    expect(scene.order).toBe('a!');
    expect(scene.batches.join()).toContain('C0');
  });

  test('a message that arrives when the leases may have expired grants nothing', async () => {
    const scene = await busyScene();
    Object.defineProperty(scene.clock, 'now', { value: () => 100 + TTL });
    scene.participant.applyEvents([grant('1', 2)]);
    await Promise.resolve();
    expect(scene.participant.waiting).toBe(2);
  });
});

describe('epochs', () => {
  test('an unknown owner states leases, waiters and requests under a new name', async () => {
    const scene = await busyScene();
    await scene.acquire('c');
    await scene.reply('U');
    expect(scene.batches).toEqual(['c.1 0: Ec.0 K0 W1 W2 A3']);
    await scene.reply('A 9', 'Q 1 21 50', 'Q 2 22 50', 'Q 3 23');
    await scene.message('G 1 1 49 1 0');
    expect(scene.order).toBe('held');
    await scene.message('G 1 1 51 1 0');
    expect(scene.order).toBe('held a');
  });

  test('after a loss of the state, a process hands no slot on for a second', async () => {
    const scene = await busyScene();
    await scene.acquire('c');
    await scene.reply('U');
    await scene.reply('A 9 22', 'Q 1 21 50', 'Q 2 22 50', 'Q 3 23');
    await scene.release('held');
    expect(scene.order).toBe('held');
    expect(scene.batches).toEqual(['c.1 1: R0']);
  });

  test('only the messages of the present owner name are received', async () => {
    const scene = await busyScene();
    expect([...scene.channels]).toEqual(['c.0']);
    await scene.acquire('c');
    await scene.reply('U');
    expect([...scene.channels]).toEqual(['c.1']);
  });

  test('a keyed throttle ends its owner, and no name stays registered', async () => {
    const scene = new Scene({ leaving: true });
    for (const [round, name] of ['a', 'b', 'c'].entries()) {
      await scene.acquire(name);
      await scene.reply('A 1', grant(String(round)));
      expect([...scene.channels]).toEqual([`c.${round}`]);
      await scene.release(name);
      expect(scene.batches).toEqual([`c.${round} 1e: R${round}`]);
      await scene.reply('A 1');
      expect([...scene.channels]).toEqual([]);
    }
    expect(scene.idles).toBe(3);
  });

  test('a reset loses the permits, and the waiters come back in their order', async () => {
    const scene = await busyScene();
    const { signal } = scene.permit('held');
    await scene.message('Z');
    expect(signal.aborted).toBe(true);
    expect(scene.batches).toEqual(['c.1 0: Ec.0 W1 W2']);
  });

  test('a process that was silent for long begins an epoch by itself', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.reply('A 1', grant('0'));
    await scene.release('a');
    await scene.reply('A 1');
    await scene.clock.advance(TTL);
    await scene.acquire('b');
    expect(scene.batches).toEqual(['c.1 0: A1']);
  });
});

describe('failures of Redis', () => {
  test('a failure rejects the calls of the batch, and waiters stay until a retry fails after the ttl', async () => {
    const scene = await busyScene();
    await scene.acquire('c');
    await scene.fail();
    expect(scene.order).toBe('held c!');
    expect(scene.outcomes.error('c')).toMatchObject({ code: 'ERR_THROTTLE_BACKEND' });
    await scene.clock.advance(TTL);
    await scene.fail();
    expect(scene.order).toBe('held c! a! b!');
  });

  test('a retry does not repeat the request of a call that was rejected', async () => {
    const scene = await busyScene();
    await scene.acquire('c');
    await scene.fail();
    await scene.clock.advance(0.1);
    expect(scene.batches).toEqual(['c.0 1:']);
    await scene.reply('A 1');
    expect(scene.batches).toEqual(['c.0 2: C3']);
  });

  test('a repeated batch 0 states a permit that a message brought: Redis may have lost its state since', async () => {
    const scene = new Scene();
    await scene.acquire('a');
    await scene.acquire('b');
    await scene.message(grant('0'));
    await scene.fail();
    await scene.clock.advance(0.1);
    expect(scene.batches).toContain('c.0 0: K0');
  });

  test('a late reply shows that Redis is back, and the failed batch is sent again at once', async () => {
    const scene = await busyScene();
    await scene.acquire('c');
    const { onLateReply } = await scene.fail();
    onLateReply();
    expect(scene.batches).toEqual(['c.0 1:']);
  });

  test('a participant with nothing to hold gives up after the ttl, and a caller of pause learns of it', async () => {
    const scene = new Scene({ leaving: true });
    scene.outcomes.follow('pause', scene.participant.confirm({ kind: 'pause', seconds: 1 }));
    await scene.settle();
    scene.outcomes.follow('limits', scene.participant.confirm(undefined));
    await scene.settle();
    await scene.fail();
    expect(scene.order).toBe('pause! limits!');
    expect([scene.participant.isRegistered, scene.channels.size, scene.clock.pending]).toEqual([false, 0, 0]);
  });

  test('with failOpen, the fallback takes over the calls, and later calls while Redis is down', async () => {
    const scene = new Scene({ failOpen: true });
    await scene.acquire('a');
    await scene.acquire('b');
    await scene.fail();
    expect(scene.order).toBe('a');
    expect(scene.permit('a').slot).toBe(0);
    scene.isDown = true;
    await scene.acquire('c', {}, true);
    expect(scene.order).toBe('a c');
    expect(scene.outcomes.permit('c')).toBeUndefined();
    await scene.release('a');
    expect(scene.order).toBe('a c b');
  });
});
