/** The rows of the chapter for bottleneck about its state, events, groups and batches, with both packages. */
import Bottleneck from 'bottleneck';
import { KeyedThrottle, Throttle } from 'headgate';
import { Batcher, retry } from './recipes.js';
import { coarseRow as row, onMessages } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'await limiter.stop()',
  async ({ job, follow, note, sleep, followAll }) => {
    const limiter = new Bottleneck({ maxConcurrent: 2 });
    const all = followAll(items, (item) => limiter.schedule(() => job(item, 40)));
    await sleep(10);
    await limiter.stop();
    note('stopped');
    await follow(
      'later',
      limiter.schedule(() => job('later')),
    );
    await all;
  },
  async ({ job, follow, note, sleep, followAll }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = followAll(items, (item) => gate.run(() => job(item, 40)));
    await sleep(10);
    gate.close();
    await gate.idle();
    note('stopped');
    await follow(
      'later',
      gate.run(() => job('later')),
    );
    await all;
  },
);

row(
  'dropErrorMessage, enqueueErrorMessage',
  async ({ job, follow, sleep, followAll }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    const message = 'shutting down';
    const reason = (error: unknown): string => (error as Error).message;
    const all = followAll(items, (item) => limiter.schedule(() => job(item)), { describe: reason });
    await sleep(10);
    await limiter.stop({ dropErrorMessage: message, enqueueErrorMessage: message });
    await follow(
      'later',
      limiter.schedule(() => job('later')),
      reason,
    );
    await all;
  },
  async ({ job, follow, sleep, followAll }) => {
    const gate = new Throttle({ concurrency: 1 });
    const message = 'shutting down';
    const reason = (error: unknown): string => (error as { cause: Error }).cause.message;
    const all = followAll(items, (item) => gate.run(() => job(item)), { describe: reason });
    await sleep(10);
    gate.close(new Error(message));
    await follow(
      'later',
      gate.run(() => job('later')),
      reason,
    );
    await all;
  },
);

row(
  'limiter.chain(other)',
  async ({ job }) => {
    const other = new Bottleneck({ maxConcurrent: 2 });
    const limiter = new Bottleneck({ minTime: 20 });
    limiter.chain(other);
    await Promise.all(items.map((item) => limiter.schedule(() => job(item, 40))));
  },
  async ({ job }) => {
    const other = new Throttle({ concurrency: 2 });
    const gate = new Throttle({ capacity: 1, period: 0.02 });
    await Promise.all(
      items.map((item) => {
        const fn = async (): Promise<string> => job(item, 40);
        return gate.run(() => other.run(fn));
      }),
    );
  },
);

row(
  'limiter.counts(), limiter.queued(), await limiter.running()',
  async ({ job, note, sleep }) => {
    const limiter = new Bottleneck({ maxConcurrent: 2 });
    const all = items.map((item) => limiter.schedule(() => job(item)));
    for (let step = 0; step < 6; step++) {
      await sleep(step === 0 ? 10 : 20);
      const { QUEUED, EXECUTING } = limiter.counts();
      note('counts', [QUEUED, EXECUTING, limiter.queued(), await limiter.running()]);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = items.map((item) => gate.run(() => job(item)));
    for (let step = 0; step < 6; step++) {
      await sleep(step === 0 ? 10 : 20);
      note('counts', [gate.waiting, gate.active, gate.waiting, gate.active]);
    }
    await Promise.all(all);
  },
);

row(
  'limiter.empty()',
  async ({ job, note, sleep }) => {
    const limiter = new Bottleneck({ maxConcurrent: 3 });
    const all = items.map((item) => limiter.schedule(() => job(item)));
    for (let step = 0; step < 8; step++) {
      await sleep(step === 0 ? 10 : 20);
      note('empty', limiter.empty());
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 3 });
    const all = items.map((item) => gate.run(() => job(item)));
    for (let step = 0; step < 8; step++) {
      await sleep(step === 0 ? 10 : 20);
      note('empty', gate.waiting === 0);
    }
    await Promise.all(all);
  },
);

row(
  'await limiter.check()',
  async ({ note, job, sleep }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    for (const item of items.slice(0, 3)) {
      const free = await limiter.check();
      if (free) void limiter.schedule(() => job(item, 30));
      note('free', free);
      await sleep(10);
    }
    await sleep(40);
  },
  async ({ note, job, sleep }) => {
    const gate = new Throttle({ concurrency: 1 });
    for (const item of items.slice(0, 3)) {
      const permit = gate.tryAcquire();
      if (permit) void job(item, 30).then(() => permit.release());
      note('free', permit !== undefined);
      await sleep(10);
    }
    await sleep(40);
  },
);

row(
  "limiter.on('executing', …), limiter.on('done', …)",
  async ({ job, note }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    limiter.on('executing', () => note('executing'));
    limiter.on('done', () => note('done'));
    for (const item of items) await limiter.schedule(() => job(item));
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 1 });
    const stops = [
      onMessages(gate, 'headgate:granted', () => note('executing')),
      onMessages(gate, 'headgate:released', () => note('done')),
    ];
    for (const item of items) await gate.run(() => job(item));
    for (const stop of stops) stop();
  },
);

row(
  "limiter.on('dropped', …)",
  async ({ job, note, sleep }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1, highWater: 1, strategy: Bottleneck.strategy.OVERFLOW });
    limiter.on('dropped', () => note('dropped'));
    for (const item of items) {
      limiter.schedule(() => job(item)).catch(() => {});
      await sleep(5);
    }
    await sleep(50);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 1, maxQueue: 1 });
    const stop = onMessages(gate, 'headgate:refused', () => note('dropped'));
    for (const item of items) {
      gate.run(() => job(item)).catch(() => {});
      await sleep(5);
    }
    await sleep(50);
    stop();
  },
);

row(
  "limiter.on('idle', …)",
  async ({ job, note }) => {
    const limiter = new Bottleneck({ maxConcurrent: 3 });
    const idle = new Promise<void>((resolve) => limiter.on('idle', resolve));
    for (const item of items) void limiter.schedule(() => job(item));
    await idle;
    note('idle');
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 3 });
    for (const item of items) void gate.run(() => job(item));
    await gate.idle();
    note('idle');
  },
);

row(
  "limiter.on('failed', …), limiter.on('retry', …)",
  async ({ job, follow }) => {
    const limiter = new Bottleneck({ maxConcurrent: 1 });
    limiter.on('failed', (_error, { retryCount }) => [1_000, 2_000][retryCount]);
    let calls = 0;
    const fn = async (): Promise<string> => {
      await job(`attempt ${++calls}`);
      if (calls < 3) throw new Error('failed');
      return 'done';
    };
    await Promise.all([follow('fn', limiter.schedule(fn)), limiter.schedule(() => job('next'))]);
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 1 });
    let calls = 0;
    const fn = async (): Promise<string> => {
      await job(`attempt ${++calls}`);
      if (calls < 3) throw new Error('failed');
      return 'done';
    };
    await Promise.all([
      follow(
        'fn',
        gate.run(() => retry(fn, [1, 2])),
      ),
      gate.run(() => job('next')),
    ]);
  },
);

row(
  'new Bottleneck.Group({ maxConcurrent: 1 }), group.key(key).schedule(fn)',
  async ({ job }) => {
    const group = new Bottleneck.Group({ maxConcurrent: 1 });
    await Promise.all(
      items.map((item, index) => {
        const key = index % 2 === 0 ? 'even' : 'odd';
        const fn = async (): Promise<string> => job(item);
        return group.key(key).schedule(fn);
      }),
    );
    await group.disconnect();
  },
  async ({ job }) => {
    const keyed = new KeyedThrottle({ concurrency: 1 });
    await Promise.all(
      items.map((item, index) => {
        const key = index % 2 === 0 ? 'even' : 'odd';
        const fn = async (): Promise<string> => job(item);
        return keyed.run(key, fn);
      }),
    );
  },
);

row(
  'group.keys().length, group.limiters().length',
  async ({ job, note }) => {
    const group = new Bottleneck.Group({ maxConcurrent: 1 });
    const all = items.map((item) => group.key(item).schedule(() => job(item)));
    note('keys', [group.keys().length, group.limiters().length]);
    await Promise.all(all);
    await group.disconnect();
  },
  async ({ job, note }) => {
    const keyed = new KeyedThrottle({ concurrency: 1 });
    const all = items.map((item) => keyed.run(item, () => job(item)));
    note('keys', [keyed.size, keyed.size]);
    await Promise.all(all);
  },
);

row(
  'new Bottleneck.Batcher({ maxTime: 100, maxSize: 3 }), batcher.add(item)',
  async ({ follow, sleep }) => {
    const batches: string[][] = [];
    const batcher = new Bottleneck.Batcher({ maxTime: 100, maxSize: 3 });
    batcher.on('batch', (batch: string[]) => batches.push(batch));
    await Promise.all(items.map((item) => batcher.add(item)));
    await sleep(1_000);
    await Promise.all(items.slice(0, 4).map((item) => batcher.add(item)));
    await follow('batches', Promise.resolve(batches));
  },
  async ({ follow, sleep }) => {
    const batches: string[][] = [];
    const batcher = new Batcher<string>(new Throttle({ capacity: 1, period: 0.1 }), 3, (batch) => batches.push(batch));
    await Promise.all(items.map((item) => batcher.add(item)));
    await sleep(1_000);
    await Promise.all(items.slice(0, 4).map((item) => batcher.add(item)));
    await follow('batches', Promise.resolve(batches));
  },
);

row(
  "limiter.on('empty', …)",
  async ({ job, note }) => {
    const limiter = new Bottleneck({ maxConcurrent: 3 });
    const all = items.map((item) => limiter.schedule(() => job(item)));
    await new Promise<void>((resolve) => limiter.once('empty', resolve));
    note('empty');
    await Promise.all(all);
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 3 });
    const all = items.map((item) => gate.run(() => job(item)));
    await gate.idle({ below: 1 });
    note('empty');
    await Promise.all(all);
  },
);

row(
  'await limiter.stop({ dropWaitingJobs: false })',
  async ({ job, follow, note, sleep, followAll }) => {
    const limiter = new Bottleneck({ maxConcurrent: 2 });
    const all = followAll(items, (item) => limiter.schedule(() => job(item)));
    await sleep(10);
    const stopped = limiter.stop({ dropWaitingJobs: false });
    await follow(
      'later',
      limiter.schedule(() => job('later')),
    );
    await stopped;
    note('stopped');
    await all;
  },
  async ({ job, follow, note, sleep, followAll }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = followAll(items, (item) => gate.run(() => job(item)));
    await sleep(10);
    const stopped = (async () => {
      await gate.drain();
    })();
    await follow(
      'later',
      gate.run(() => job('later')),
    );
    await stopped;
    note('stopped');
    await all;
  },
);
