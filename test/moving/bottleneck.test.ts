/** The rows of the chapter for bottleneck that create limiters and start jobs, with both packages. */
import { promisify } from 'node:util';
import Bottleneck from 'bottleneck';
import { Throttle } from 'headgate';
import { BlockingGate, LeakyGate, PrioritizedGate } from './recipes.js';
import { CALLS, failing, coarseRow as row, type Scene } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'maxConcurrent: 3',
  async ({ job }) => {
    const limiter = new Bottleneck({ maxConcurrent: 3 });
    await Promise.all(items.map((item, index) => limiter.schedule(() => job(item, 20 * (index + 2)))));
  },
  async ({ job }) => {
    const gate = new Throttle({ concurrency: 3 });
    await Promise.all(items.map((item, index) => gate.run(() => job(item, 20 * (index + 2)))));
  },
);

row(
  'minTime: 250',
  async ({ job, sleep }) => {
    const limiter = new Bottleneck({ minTime: 250 });
    await Promise.all(items.map((item) => limiter.schedule(() => job(item))));
    await sleep(2_000);
    await Promise.all(items.map((item) => limiter.schedule(() => job(item))));
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ capacity: 1, period: 0.25 });
    await Promise.all(items.map((item) => gate.run(() => job(item))));
    await sleep(2_000);
    await Promise.all(items.map((item) => gate.run(() => job(item))));
  },
);

row(
  'reservoir: 2, reservoirRefreshAmount: 2, reservoirRefreshInterval: 1_000',
  async ({ job }) => {
    const limiter = new Bottleneck({ reservoir: 2, reservoirRefreshAmount: 2, reservoirRefreshInterval: 1_000 });
    await Promise.all(items.map((item) => limiter.schedule(() => job(item))));
    await limiter.disconnect();
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    await Promise.all(items.map((item) => gate.run(() => job(item))));
  },
);

/** Starts many jobs, and notes at the end of each second how many have started. */
async function countStarts({ job, note, sleep }: Scene, run: (fn: () => Promise<string>) => unknown): Promise<void> {
  let started = 0;
  for (const item of [...items, ...items]) {
    run(() => {
      started++;
      return job(item);
    });
  }
  for (let second = 0; second < 6; second++) {
    await sleep(second === 0 ? 100 : 1_000);
    note('started', started);
  }
}

row(
  'reservoir: 4, reservoirIncreaseAmount: 2, reservoirIncreaseInterval: 1_000, reservoirIncreaseMaximum: 4',
  async (scene) => {
    const limiter = new Bottleneck({
      reservoir: 4,
      reservoirIncreaseAmount: 2,
      reservoirIncreaseInterval: 1_000,
      reservoirIncreaseMaximum: 4,
    });
    await countStarts(scene, (fn) => limiter.schedule(fn));
    await limiter.disconnect();
  },
  async (scene) => {
    const gate = new Throttle({ capacity: 2, burst: 4 });
    await countStarts(scene, (fn) => gate.run(fn));
  },
  // bottleneck adds two at the end of a second, and headgate one at the end of each half.
  { parts: ['notes'] },
);

row(
  'reservoir: 3, limiter.incrementReservoir(2)',
  async ({ job, sleep }) => {
    const limiter = new Bottleneck({ reservoir: 3 });
    for (const item of items) void limiter.schedule(() => job(item));
    await sleep(1_000);
    await limiter.incrementReservoir(2);
    await sleep(1_000);
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ capacity: 3, period: 31_536_000 });
    for (const item of items) void gate.run(() => job(item));
    await sleep(1_000);
    gate.correct(gate.tokens + 2);
    await sleep(1_000);
  },
);

row(
  'await limiter.currentReservoir()',
  async ({ job, note }) => {
    const limiter = new Bottleneck({ reservoir: 5, reservoirRefreshAmount: 5, reservoirRefreshInterval: 60_000 });
    for (const item of items.slice(0, 4)) {
      await limiter.schedule(() => job(item));
      note('left', await limiter.currentReservoir());
    }
    await limiter.disconnect();
  },
  async ({ job, note }) => {
    const gate = new Throttle({ capacity: 5, period: 60, window: 'sliding' });
    for (const item of items.slice(0, 4)) {
      await gate.run(() => job(item));
      note('left', gate.tokens);
    }
  },
);

row(
  'highWater: 2, strategy: Bottleneck.strategy.OVERFLOW',
  async ({ job, followAll }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1, highWater: 2, strategy: Bottleneck.strategy.OVERFLOW });
    await followAll(items, (item) => limiter.schedule(() => job(item)), { pauses: items.map(() => 2) });
  },
  async ({ job, followAll }) => {
    const gate = new Throttle({ concurrency: 1, maxQueue: 2 });
    await followAll(items, (item) => gate.run(() => job(item)), { pauses: items.map(() => 2) });
  },
);

row(
  'highWater: 2, strategy: Bottleneck.strategy.LEAK',
  async ({ job, followAll }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1, highWater: 2, strategy: Bottleneck.strategy.LEAK });
    await followAll(items, (item) => limiter.schedule(() => job(item)), { pauses: items.map(() => 2) });
  },
  async ({ job, followAll }) => {
    const gate = new LeakyGate(new Throttle({ concurrency: 1 }), 2);
    await followAll(items, (item) => gate.run(() => job(item)), { pauses: items.map(() => 2) });
  },
);

row(
  'highWater: 2, strategy: Bottleneck.strategy.BLOCK, penalty: 500',
  async ({ job, followAll }) => {
    const { BLOCK } = Bottleneck.strategy;
    const limiter = new Bottleneck({ maxConcurrent: 1, highWater: 2, strategy: BLOCK, penalty: 500 });
    const pauses = [2, 2, 2, 2, 400, 400, 600, 2];
    await followAll(
      pauses.map((_, index) => `${index}`),
      (item) => limiter.schedule(() => job(item)),
      { pauses },
    );
  },
  async ({ job, followAll }) => {
    const gate = new BlockingGate(new Throttle({ concurrency: 1 }), 2, 0.5);
    const pauses = [2, 2, 2, 2, 400, 400, 600, 2];
    await followAll(
      pauses.map((_, index) => `${index}`),
      (item) => gate.run(() => job(item)),
      { pauses },
    );
  },
);

row(
  'limiter.schedule(fn, ...args)',
  async (scene) => {
    const { follow } = scene;
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    const fn = failing(scene);
    await Promise.all(CALLS.map((args) => follow(args[0], limiter.schedule(fn, ...args), String)));
  },
  async (scene) => {
    const { follow } = scene;
    const gate = new Throttle({ concurrency: 1 });
    const fn = failing(scene);
    await Promise.all(
      CALLS.map((args) =>
        follow(
          args[0],
          gate.run(() => fn(...args)),
          String,
        ),
      ),
    );
  },
);

type Callback = (error: unknown, result: string) => void;

row(
  'limiter.submit(fn, ...args, callback)',
  async ({ job, note }) => {
    const limiter = new Bottleneck({ maxConcurrent: 2 });
    const fn = (name: string, done: Callback): void => void job(name).then((result) => done(null, result));
    await Promise.all(
      items.map(
        (item) =>
          new Promise<void>((resolve) => {
            const callback = (_error: unknown, result: string): void => {
              note('result', result);
              resolve();
            };
            limiter.submit(fn, item, callback);
          }),
      ),
    );
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 2 });
    const fn = (name: string, done: Callback): void => void job(name).then((result) => done(null, result));
    await Promise.all(items.map(async (...args) => note('result', await gate.run(() => promisify(fn)(args[0])))));
  },
);

row(
  'limiter.wrap(fn)',
  async ({ job, follow }) => {
    const limiter = new Bottleneck({ maxConcurrent: 2 });
    const fn = async (item: string, ms: number): Promise<string> => job(item, ms);
    const wrapped = limiter.wrap(fn);
    await Promise.all(items.map((item, index) => follow(item, wrapped(item, 20 * index + 20))));
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 2 });
    const fn = async (item: string, ms: number): Promise<string> => job(item, ms);
    const wrapped = gate.wrap(fn);
    await Promise.all(items.map((item, index) => follow(item, wrapped(item, 20 * index + 20))));
  },
);

row(
  'weight: 2, wrapped.withOptions({ weight: 2 })',
  async ({ job }) => {
    const limiter = new Bottleneck({ maxConcurrent: 3, reservoir: 6 });
    const all = items.slice(0, 3).map((item) => {
      const fn = async (): Promise<string> => job(item);
      const wrapped = limiter.wrap(fn);
      return item === 'c' ? wrapped.withOptions({ weight: 2 }) : limiter.schedule({ weight: 2 }, fn);
    });
    await Promise.all(all);
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 6, concurrency: 3, period: 31_536_000 });
    await Promise.all(
      items.slice(0, 3).map((item) => {
        const fn = async (): Promise<string> => job(item);
        return gate.run(fn, 2, { slots: 2 });
      }),
    );
  },
);

row(
  'priority: 0',
  async ({ job, follow, sleep }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    const all = [
      follow(
        'a',
        limiter.schedule(() => job('a')),
      ),
    ];
    await sleep(2);
    for (const [index, item] of items.entries()) {
      const fn = async (): Promise<string> => job(item);
      all.push(follow(item, limiter.schedule({ priority: index % 2 === 1 ? 0 : 5 }, fn)));
    }
    await Promise.all(all);
  },
  async ({ job, follow, sleep }) => {
    const gate = new PrioritizedGate(new Throttle({ concurrency: 1 }));
    const all = [
      follow(
        'a',
        gate.run(() => job('a')),
      ),
    ];
    await sleep(2);
    for (const [index, item] of items.entries()) {
      const fn = async (): Promise<string> => job(item);
      if (index % 2 === 1) all.push(follow(item, gate.run(fn, 5)));
      else all.push(follow(item, gate.run(fn)));
    }
    await Promise.all(all);
  },
);

row(
  'expiration: 60',
  async ({ job, follow }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    await Promise.all([
      follow(
        'slow',
        limiter.schedule({ expiration: 60 }, () => job('slow', 200)),
      ),
      follow(
        'fast',
        limiter.schedule({ expiration: 60 }, () => job('fast')),
      ),
    ]);
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 1, ttl: 0.06 });
    await Promise.all([
      follow(
        'slow',
        gate.run(({ signal }) => job('slow', 200, signal)),
      ),
      follow(
        'fast',
        gate.run(({ signal }) => job('fast', 20, signal)),
      ),
    ]);
  },
  // bottleneck leaves the job running.
  { parts: ['starts', 'results'] },
);

row(
  'limiter.updateSettings({ maxConcurrent: 4 })',
  async ({ job, sleep }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    const all = items.map((item) => limiter.schedule(() => job(item, 40)));
    await sleep(10);
    limiter.updateSettings({ maxConcurrent: 4 });
    await Promise.all(all);
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ concurrency: 1 });
    const all = items.map((item) => gate.run(() => job(item, 40)));
    await sleep(10);
    gate.configure({ concurrency: 4 });
    await Promise.all(all);
  },
);
