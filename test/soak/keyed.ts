/**
 * A keyed throttle against one reference model per key. The models are never evicted. Every call has the same outcome
 * as in the model, and a key is live exactly when its model differs from a new one.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { KeyedThrottle } from 'headgate';
import {
  bursts,
  capacities,
  concurrencies,
  type Held,
  longHistory,
  type Operation,
  periods,
  Reference,
} from '../model/reference.js';
import { type Part, playSeed, type Tally, turn } from './part.js';
import { AwaitedPromises, ComparedGate, checkRate, World } from './model-comparison.js';

const KEYS = ['ada', 'bob', 'cy', 'dot', 'eve'];

const history = fc.record({
  capacity: capacities,
  concurrency: concurrencies,
  period: periods,
  burst: bursts,
  maxQueue: fc.constantFrom(Infinity, Infinity, 0, 2, 5),
  maxKeys: fc.constantFrom(Infinity, Infinity, 1, 2, 4),
  operations: longHistory(300, (operation) => fc.tuple(fc.nat(KEYS.length - 1), operation)),
});

async function playKeyed(seed: number, tally: Tally): Promise<void> {
  await playSeed(seed, history, async ({ capacity, concurrency, period, burst, maxQueue, maxKeys, operations }) => {
    const world = new World(tally);
    const { clock } = world;
    const keyed = new KeyedThrottle(capacity, concurrency, period, { burst, maxQueue, maxKeys, clock });
    const gates = KEYS.map((key) => {
      const methods = {
        acquire: keyed.acquire.bind(keyed, key),
        run: keyed.run.bind(keyed, key),
        tryAcquire: keyed.tryAcquire.bind(keyed, key),
        pause: keyed.pause.bind(keyed, key),
        resume: keyed.resume.bind(keyed, key),
        configure: (limits: object) => keyed.peek(key)?.configure(limits),
      } as ConstructorParameters<typeof ComparedGate>[1];
      return new ComparedGate(new Reference(capacity, concurrency, period, burst, maxQueue), methods, world);
    });
    const fresh = gates.map(() => new Reference(capacity, concurrency, period, burst, maxQueue))[0] as Reference;
    const hasOwnLimits = (model: Reference): boolean =>
      model.capacity !== capacity ||
      model.concurrency !== concurrency ||
      model.period !== period ||
      model.size !== fresh.size;
    const isLive = (model: Reference): boolean =>
      model.active > 0 ||
      model.queue.length > 0 ||
      (!model.closed &&
        (model.pausedUntil > model.time ||
          (model.capacity !== Infinity && model.tokens < model.size) ||
          hasOwnLimits(model)));

    // A key becomes live again after each eviction. Each new throttle starts with an empty log of grants.
    const lives = gates.map(() => ({ count: 0, isLive: false, grants: 0 }));
    const lifeOf = new Map<Held, number>();
    const countLives = (): void =>
      gates.forEach(({ model }, at) => {
        const life = lives[at] as (typeof lives)[number];
        const live = isLive(model);
        if ((live && !life.isLive) || (!live && model.grants.length > life.grants)) life.count++;
        life.isLive = live;
        for (const grant of model.grants.slice(life.grants)) lifeOf.set(grant, life.count);
        life.grants = model.grants.length;
      });
    /**
     * Whether a settlement states a debt of a grant before the previous throttle of its key. The log of that throttle
     * is gone, so the debt is measured without the grants of that throttle.
     */
    const isTwiceEvicted = (at: number, operation: Operation): boolean => {
      const held = gates[at]?.model.pick(operation);
      if (operation.do !== 'settle' || held === undefined || operation.cost <= held.cost) return false;
      const { count, isLive: live } = lives[at] as (typeof lives)[number];
      return count - (lifeOf.get(held) ?? count) + (live ? 0 : 1) > 1;
    };

    const awaited = new AwaitedPromises();
    const waiting = (): number => gates.reduce((sum, { model }) => sum + model.queue.length, 0);
    let step = 0;
    for (const [index, operation] of operations) {
      step++;
      const gate = gates[index] as ComparedGate;
      const { model } = gate;
      // The instants have become too fine for exact sums.
      if (!gates.every(({ model: each }) => each.exact)) break;
      tally.operations++;
      switch (operation.do) {
        case 'abort':
          world.abort(operation.signal);
          await world.turn();
          break;
        case 'clear':
          keyed.clear();
          for (const each of gates) each.model.dismiss(() => true, 'cleared');
          await world.turn();
          break;
        case 'idle': {
          const { below } = operation;
          awaited.follow(`below ${below}`, keyed.idle({ below }), () => waiting() < below);
          await world.turn();
          break;
        }
        case 'drain':
          awaited.follow('drain', keyed.drain(), () => gates.every(({ model: each }) => each.isIdle));
          for (const each of gates) each.model.closed = true;
          await world.turn();
          break;
        case 'close':
          keyed.close();
          for (const each of gates) {
            each.model.closed = true;
            each.model.dismiss(() => true, 'closed');
          }
          await world.turn();
          break;
        case 'advance':
          for (const each of gates) each.model.advance(operation.seconds);
          await clock.advance(operation.seconds);
          for (const each of gates) each.model.turn();
          if (!gates.every(({ model: each }) => each.exact)) continue;
          break;
        case 'settle':
        case 'release':
          if (!isTwiceEvicted(index, operation)) await gate.play(operation);
          break;
        case 'configure': {
          // A key without a live throttle cannot be configured.
          if (model.closed || !isLive(model)) break;
          // An explicit burst and a default burst look the same, and an evicted key starts with the original limits.
          const { burst: stated = burst, ...limits } = operation.limits;
          await gate.play({ ...operation, limits: { ...limits, burst: burst === undefined ? undefined : stated } });
          break;
        }
        default: {
          // After close, a key may have its own limits or the original limits again, and errors may name either.
          if (model.closed && (hasOwnLimits(model) || operation.do === 'pause' || operation.do === 'resume')) break;
          const full =
            !model.closed && !isLive(model) && gates.filter((other) => isLive(other.model)).length >= maxKeys;
          if (!full) await gate.play(operation);
          // An evictable key that is not swept yet stays usable. A swept key needs a free place again.
          else if (keyed.size >= maxKeys) {
            const refusal = { code: 'ERR_THROTTLE_QUEUE_FULL' };
            if (operation.do === 'acquire')
              await assert.rejects(keyed.acquire(KEYS[index] as string, operation.cost), refusal);
            if (operation.do === 'run')
              await assert.rejects(
                keyed.run(KEYS[index] as string, () => {}, operation.cost),
                refusal,
              );
            if (operation.do === 'tryAcquire')
              assert.equal(keyed.tryAcquire(KEYS[index] as string, operation.cost), undefined);
            if (operation.do === 'pause')
              assert.throws(() => keyed.pause(KEYS[index] as string, operation.seconds), refusal);
            tally.refusals++;
          } else assert.fail(`${keyed.size} keys are live, although at most ${maxKeys} are expected`);
        }
      }
      countLives();
      gates.forEach((each, at) => {
        each.compareOutcomes();
        // `peek` evicts an evictable key. A peek in every step would leave nothing for the sweep.
        if (step % 8 !== 0 && !isLive(each.model)) return;
        const throttle = keyed.peek(KEYS[at] as string);
        assert.equal(throttle !== undefined, isLive(each.model), `whether ${KEYS[at]} is live`);
        if (throttle !== undefined) each.compareNumbers(throttle);
      });
      if (step % 8 === 0) assert.equal(keyed.size, gates.filter(({ model: each }) => isLive(each)).length, 'live keys');
      assert.deepEqual(
        [keyed.waiting, keyed.active],
        [waiting(), gates.reduce((sum, { model: each }) => sum + each.active, 0)],
        'waiting and active',
      );
      awaited.compare();
      world.compareTimers();
      world.compareListeners();
    }
    for (const { model } of gates) checkRate(model);

    keyed.close();
    for (const gate of gates) gate.end();
    await keyed.idle();
    assert.deepEqual([keyed.size, clock.pending], [0, 0], 'remaining');
    await turn();
  });
}

export const keyed: Part = { name: 'keyed', exact: true, weight: 1, play: playKeyed };
