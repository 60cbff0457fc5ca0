/**
 * A throttle for each key, against a reference model for each that is kept for ever: whatever is asked, the answer is the
 * same, and a key is live exactly when its model can be told from a new one.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { KeyedThrottle } from 'headgate';
import { bursts, capacities, concurrencies, longHistory, periods, Reference } from '../model/reference.js';
import { type Part, playSeed, type Tally, turn } from './part.js';
import { checkRate, Twin, World } from './twin.js';

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
    const twins = KEYS.map((key) => {
      const asked = {
        acquire: keyed.acquire.bind(keyed, key),
        run: keyed.run.bind(keyed, key),
        tryAcquire: keyed.tryAcquire.bind(keyed, key),
        pause: keyed.pause.bind(keyed, key),
        resume: keyed.resume.bind(keyed, key),
        configure: (limits: object) => keyed.peek(key)?.configure(limits),
      } as ConstructorParameters<typeof Twin>[1];
      return new Twin(new Reference(capacity, concurrency, period, burst, maxQueue), asked, world);
    });
    const fresh = twins.map(() => new Reference(capacity, concurrency, period, burst, maxQueue))[0] as Reference;
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

    let step = 0;
    for (const [index, operation] of operations) {
      step++;
      const twin = twins[index] as Twin;
      const { model } = twin;
      // Instants too fine for exact sums.
      if (!twins.every(({ model: each }) => each.exact)) break;
      tally.operations++;
      switch (operation.do) {
        case 'abort':
          world.abort(operation.signal);
          await world.turn();
          break;
        case 'close':
          keyed.close();
          for (const each of twins) {
            each.model.closed = true;
            each.model.dismiss(() => true, 'closed');
          }
          await world.turn();
          break;
        case 'advance':
          for (const each of twins) each.model.advance(operation.seconds);
          await clock.advance(operation.seconds);
          for (const each of twins) each.model.turn();
          if (!twins.every(({ model: each }) => each.exact)) continue;
          break;
        case 'settle':
        case 'release':
          await twin.play(operation);
          break;
        case 'configure': {
          // Only who can be told from new ones can be had to configure.
          if (model.closed || !isLive(model)) break;
          // Whether a burst was stated or follows from the capacity cannot be seen, and a dropped key starts as all keys did.
          const { burst: stated = burst, ...limits } = operation.limits;
          await twin.play({ ...operation, limits: { ...limits, burst: burst === undefined ? undefined : stated } });
          break;
        }
        default: {
          // Closed, the key's limits may be those of all again; whoever is refused for them hears of either.
          if (model.closed && (hasOwnLimits(model) || operation.do === 'pause' || operation.do === 'resume')) break;
          const full =
            !model.closed && !isLive(model) && twins.filter((other) => isLive(other.model)).length >= maxKeys;
          if (!full) await twin.play(operation);
          // What is fresh and not swept yet may go on as it is; swept, it has to be let in again.
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
          } else assert.fail(`${keyed.size} keys are live, of which ${maxKeys} were to be seen`);
        }
      }
      twins.forEach((each, at) => {
        each.compareOutcomes();
        // A look drops what is fresh. Done each time, it would leave nothing for the calls to sweep.
        if (step % 8 !== 0 && !isLive(each.model)) return;
        const throttle = keyed.peek(KEYS[at] as string);
        assert.equal(throttle !== undefined, isLive(each.model), `whether ${KEYS[at]} is live`);
        if (throttle !== undefined) each.compareNumbers(throttle);
      });
      if (step % 8 === 0) assert.equal(keyed.size, twins.filter(({ model: each }) => isLive(each)).length, 'live keys');
      world.compareTimers();
      world.compareListeners();
    }
    for (const { model } of twins) checkRate(model);

    keyed.close();
    for (const twin of twins) twin.end();
    await keyed.idle();
    assert.deepEqual([keyed.size, clock.pending], [0, 0], 'what is left');
    await turn();
  });
}

export const keyed: Part = { name: 'keyed', exact: true, weight: 1, play: playKeyed };
