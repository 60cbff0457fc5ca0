/** Each row of the table for limiter, with both packages. */
import { Throttle } from 'headgate';
import { RateLimiter, TokenBucket } from 'limiter';
import { row } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  "new RateLimiter({ tokensPerInterval: 2, interval: 'minute' })",
  async ({ job }) => {
    const limiter = new RateLimiter({ tokensPerInterval: 2, interval: 'minute' });
    await Promise.all(
      items.map(async (item) => {
        await limiter.removeTokens(1);
        await job(item);
      }),
    );
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 2, period: 60, window: 'sliding' });
    await Promise.all(items.map((item) => gate.run(() => job(item))));
  },
);

row(
  'new TokenBucket({ bucketSize: 4, tokensPerInterval: 8, interval: 1_000 })',
  async ({ job, sleep }) => {
    const bucket = new TokenBucket({ bucketSize: 4, tokensPerInterval: 8, interval: 1_000 });
    const start = async (item: string): Promise<void> => {
      await bucket.removeTokens(1);
      await job(item);
    };
    await Promise.all(items.map(start));
    await sleep(5_000); // the bucket is full
    await Promise.all(items.map(start));
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ capacity: 8, burst: 4 });
    gate.correct(0);
    const start = async (item: string): Promise<string> => gate.run(() => job(item));
    await Promise.all(items.map(start));
    await sleep(5_000);
    await Promise.all(items.map(start));
  },
);

row(
  'parentBucket',
  async ({ job, sleep }) => {
    const parentBucket = new TokenBucket({ bucketSize: 4, tokensPerInterval: 2, interval: 'second' });
    const bucket = new TokenBucket({ bucketSize: 8, tokensPerInterval: 8, interval: 'second', parentBucket });
    await sleep(1_000);
    await Promise.all(
      items.map(async (item) => {
        await bucket.removeTokens(2);
        await job(item);
      }),
    );
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ capacity: 8, also: [{ capacity: 2, burst: 4 }] });
    gate.correct(0);
    await sleep(1_000);
    await Promise.all(items.map((item) => gate.run(() => job(item), 2)));
  },
);

row(
  'limiter.removeTokens(n)',
  async ({ note }) => {
    const limiter = new RateLimiter({ tokensPerInterval: 4, interval: 'second' });
    for (const n of [3, 1, 4, 2, 2, 1, 3]) {
      await limiter.removeTokens(n);
      note('granted', n);
    }
  },
  async ({ note }) => {
    const gate = new Throttle({ capacity: 4, window: 'sliding' });
    for (const n of [3, 1, 4, 2, 2, 1, 3]) {
      (await gate.acquire(n)).release();
      note('granted', n);
    }
  },
);

row(
  'limiter.tryRemoveTokens(n)',
  async ({ note, sleep }) => {
    const limiter = new TokenBucket({ bucketSize: 4, tokensPerInterval: 8, interval: 'second' });
    await sleep(1_000);
    for (const n of [2, 1, 2, 1, 1, 4]) {
      note(`${n}`, limiter.tryRemoveTokens(n));
      await sleep(125);
    }
  },
  async ({ note, sleep }) => {
    const gate = new Throttle({ capacity: 8, burst: 4 });
    await sleep(1_000);
    for (const n of [2, 1, 2, 1, 1, 4]) {
      const permit = gate.tryAcquire(n);
      permit?.release();
      note(`${n}`, permit !== undefined);
      await sleep(125);
    }
  },
);

row(
  'fireImmediately: true',
  async ({ note, sleep }) => {
    const limiter = new RateLimiter({ tokensPerInterval: 2, interval: 'second', fireImmediately: true });
    for (let call = 0; call < 12; call++) {
      note('granted', (await limiter.removeTokens(1)) !== -1);
      await sleep(250);
    }
  },
  async ({ note, sleep }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    for (let call = 0; call < 12; call++) {
      const permit = gate.tryAcquire(1);
      permit?.release();
      note('granted', permit !== undefined);
      await sleep(250);
    }
  },
);

row(
  'limiter.getWaitTime(n)',
  async ({ note, sleep }) => {
    const limiter = new TokenBucket({ bucketSize: 4, tokensPerInterval: 8, interval: 'second' });
    await sleep(1_000);
    for (const n of [1, 2, 3, 4]) {
      note('milliseconds', limiter.getWaitTime(n));
      limiter.tryRemoveTokens(2);
      note('milliseconds', limiter.getWaitTime(n));
      await sleep(125);
    }
  },
  async ({ note, sleep }) => {
    const gate = new Throttle({ capacity: 8, burst: 4 });
    await sleep(1_000);
    for (const n of [1, 2, 3, 4]) {
      note('milliseconds', gate.estimateWait(n) * 1_000);
      gate.tryAcquire(2)?.release();
      note('milliseconds', gate.estimateWait(n) * 1_000);
      await sleep(125);
    }
  },
);

row(
  'limiter.getTokensRemaining()',
  async ({ note, sleep }) => {
    const limiter = new RateLimiter({ tokensPerInterval: 8, interval: 'second' });
    for (const n of [2, 1, 4]) {
      await limiter.removeTokens(n);
      note('tokens', limiter.getTokensRemaining());
      await sleep(125);
    }
  },
  async ({ note, sleep }) => {
    const gate = new Throttle({ capacity: 8 });
    for (const n of [2, 1, 4]) {
      (await gate.acquire(n)).release();
      note('tokens', gate.tokens);
      await sleep(125);
    }
  },
);
