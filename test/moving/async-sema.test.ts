/** Each row of the table for async-sema, with both packages. */
import { RateLimit, Sema } from 'async-sema';
import { Throttle } from 'headgate';
import { Pool } from './recipes.js';
import { row } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'new Sema(3)',
  async ({ job }) => {
    const sema = new Sema(3);
    await Promise.all(
      items.map(async (item, index) => {
        await sema.acquire();
        await job(item, 10 + index);
        sema.release();
      }),
    );
  },
  async ({ job }) => {
    const gate = new Throttle({ concurrency: 3 });
    await Promise.all(items.map((item, index) => gate.run(() => job(item, 10 + index))));
  },
);

row(
  'await sema.acquire(), sema.release()',
  async ({ job }) => {
    const sema = new Sema(2);
    await Promise.all(
      items.map(async (item, index) => {
        await sema.acquire();
        try {
          await job(item, 10 + index);
        } finally {
          sema.release();
        }
      }),
    );
  },
  async ({ job }) => {
    const gate = new Throttle({ concurrency: 2 });
    await Promise.all(
      items.map(async (item, index) => {
        const permit = await gate.acquire();
        try {
          await job(item, 10 + index);
        } finally {
          permit.release();
        }
      }),
    );
  },
);

row(
  'sema.tryAcquire()',
  async ({ note }) => {
    const sema = new Sema(2);
    for (let call = 0; call < 4; call++) note('granted', sema.tryAcquire() !== undefined);
    sema.release();
    note('granted', sema.tryAcquire() !== undefined);
  },
  async ({ note }) => {
    const gate = new Throttle({ concurrency: 2 });
    const permits = [];
    for (let call = 0; call < 4; call++) {
      permits.push(gate.tryAcquire());
      note('granted', permits.at(-1) !== undefined);
    }
    permits[0]?.release();
    note('granted', gate.tryAcquire() !== undefined);
  },
);

row(
  'sema.nrWaiting()',
  async ({ job, note, sleep }) => {
    const sema = new Sema(2);
    const all = items.map(async (item) => {
      await sema.acquire();
      await job(item);
      sema.release();
    });
    for (let step = 0; step < 6; step++) {
      note('waiting', sema.nrWaiting());
      await sleep(8);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = items.map((item) => gate.run(() => job(item)));
    for (let step = 0; step < 6; step++) {
      note('waiting', gate.waiting);
      await sleep(8);
    }
    await Promise.all(all);
  },
);

row(
  'await sema.drain()',
  async ({ job, note }) => {
    const sema = new Sema(3);
    const start = async (item: string, index: number): Promise<void> => {
      await sema.acquire();
      await job(item, 10 + index);
      sema.release();
    };
    const before = items.map(start);
    const drained = sema.drain();
    const after = items.map(start);
    await drained;
    note('drained');
    for (let slot = 0; slot < 3; slot++) sema.release();
    await Promise.all([...before, ...after]);
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 3 });
    const start = async (item: string, index: number): Promise<string> => gate.run(() => job(item, 10 + index));
    const before = items.map(start);
    const drained = gate.acquire(1, { slots: 3 });
    const after = items.map(start);
    const permit = await drained;
    note('drained');
    permit.release();
    await Promise.all([...before, ...after]);
  },
);

row(
  'initFn',
  async ({ job, follow }) => {
    const connections = ['first', 'second'];
    const sema = new Sema(2, { initFn: () => connections.shift() });
    await Promise.all(
      items.map(async (item, index) => {
        const connection = (await sema.acquire()) as string;
        await follow(item, job(`${item} on ${connection}`, 10 + 3 * index));
        sema.release(connection);
      }),
    );
  },
  async ({ job, follow }) => {
    const pool = new Pool(['first', 'second']);
    await Promise.all(
      items.map((item, index) =>
        pool.run(async (connection) => {
          await follow(item, job(`${item} on ${connection}`, 10 + 3 * index));
        }),
      ),
    );
  },
);

row(
  'pauseFn, resumeFn',
  async ({ job }) => {
    let [opened, open] = [Promise.resolve(), (): void => {}];
    const pauseFn = (): void => {
      opened = new Promise((resolve) => (open = resolve));
    };
    const resumeFn = (): void => open();
    const sema = new Sema(2, { pauseFn, resumeFn });
    const all: Promise<void>[] = [];
    for (const item of items) {
      await opened;
      const start = async (): Promise<void> => {
        await sema.acquire();
        await job(item);
        sema.release();
      };
      all.push(start());
    }
    await Promise.all(all);
  },
  async ({ job }) => {
    const gate = new Throttle({ concurrency: 2 });
    await gate.map(items, (item) => job(item));
  },
);

row(
  'RateLimit(2)',
  async ({ job }) => {
    const limit = RateLimit(2);
    await Promise.all(
      items.map(async (item) => {
        await limit();
        await job(item);
      }),
    );
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    await Promise.all(items.map((item) => gate.run(() => job(item))));
  },
);

row(
  'timeUnit: 60_000',
  async ({ job }) => {
    const limit = RateLimit(2, { timeUnit: 60_000 });
    await Promise.all(
      items.map(async (item) => {
        await limit();
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
  'uniformDistribution: true',
  async ({ job }) => {
    const limit = RateLimit(4, { uniformDistribution: true });
    await Promise.all(
      items.map(async (item) => {
        await limit();
        await job(item);
      }),
    );
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 1, period: 1 / 4 });
    await Promise.all(items.map((item) => gate.run(() => job(item))));
  },
);
