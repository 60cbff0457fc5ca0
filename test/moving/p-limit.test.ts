/** Each row of the table for p-limit, with both packages. */
import { Throttle } from 'headgate';
import pLimit, { limitFunction } from 'p-limit';
import { CALLS, failing, row } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'pLimit(3), pLimit({ concurrency: 3 })',
  async ({ job }) => {
    const limit = pLimit({ concurrency: 3 });
    await Promise.all(items.map((item, index) => limit(() => job(item, 10 + index))));
    const other = pLimit(3);
    await Promise.all(items.map((item, index) => other(() => job(item, 10 + index))));
  },
  async ({ job }) => {
    const gate = new Throttle({ concurrency: 3 });
    await Promise.all(items.map((item, index) => gate.run(() => job(item, 10 + index))));
    const other = new Throttle({ concurrency: 3 });
    await Promise.all(items.map((item, index) => other.run(() => job(item, 10 + index))));
  },
);

row(
  'limit(fn, ...args)',
  async (scene) => {
    const { follow } = scene;
    const limit = pLimit(1);
    const fn = failing(scene);
    await Promise.all(CALLS.map((args) => follow(args[0], limit(fn, ...args), String)));
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

row(
  'limit.map(items, fn)',
  async ({ job, follow }) => {
    const limit = pLimit(2);
    const fn = async (item: string, index: number): Promise<string> => `${index} ${await job(item, 20 - index)}`;
    await follow('results', limit.map(items, fn));
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 2 });
    const fn = async (item: string, index: number): Promise<string> => `${index} ${await job(item, 20 - index)}`;
    await follow('results', gate.map(items, fn));
  },
);

row(
  'limitFunction(fn, { concurrency: 2 })',
  async ({ job, follow }) => {
    const fn = async (name: string): Promise<string> => job(name);
    const limited = limitFunction(fn, { concurrency: 2 });
    await Promise.all(items.map((item) => follow(item, limited(item))));
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 2 });
    const fn = async (name: string): Promise<string> => job(name);
    const limited = gate.wrap(fn);
    await Promise.all(items.map((item) => follow(item, limited(item))));
  },
);

row(
  'limit.activeCount, limit.pendingCount',
  async ({ job, note, sleep }) => {
    const limit = pLimit(2);
    const all = items.map((item, index) => limit(() => job(item, 10 + index)));
    for (let step = 0; step < 12; step++) {
      note('counts', [limit.activeCount, limit.pendingCount]);
      await sleep(4);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = items.map((item, index) => gate.run(() => job(item, 10 + index)));
    for (let step = 0; step < 12; step++) {
      note('counts', [gate.active, gate.waiting]);
      await sleep(4);
    }
    await Promise.all(all);
  },
);

row(
  'limit.concurrency = 4',
  async ({ job, sleep }) => {
    const limit = pLimit(1);
    const all = items.map((item) => limit(() => job(item, 20)));
    await sleep(5);
    limit.concurrency = 4;
    await sleep(18);
    limit.concurrency = 1;
    await Promise.all(all);
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ concurrency: 1 });
    const all = items.map((item) => gate.run(() => job(item, 20)));
    await sleep(5);
    gate.configure({ concurrency: 4 });
    await sleep(18);
    gate.configure({ concurrency: 1 });
    await Promise.all(all);
  },
);

row(
  'rejectOnClear: true, limit.clearQueue()',
  async ({ job, follow, note, sleep, followAll }) => {
    const limit = pLimit({ concurrency: 2, rejectOnClear: true });
    const all = followAll(items, (item) => limit(() => job(item)));
    await sleep(5);
    limit.clearQueue();
    note('waiting', limit.pendingCount);
    await follow(
      'later',
      limit(() => job('later')),
    );
    await all;
  },
  async ({ job, follow, note, sleep, followAll }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = followAll(items, (item) => gate.run(() => job(item)));
    await sleep(5);
    gate.clear();
    note('waiting', gate.waiting);
    await follow(
      'later',
      gate.run(() => job('later')),
    );
    await all;
  },
);
