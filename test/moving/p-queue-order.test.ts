/** The rows of the chapter for p-queue about the order and the length of the queue, with both packages. */
import { Throttle } from 'headgate';
import PQueue from 'p-queue';
import { PrioritizedGate } from './recipes.js';
import { row } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'queue.add(fn, { priority: 1 })',
  async ({ job, follow, sleep }) => {
    const queue = new PQueue({ concurrency: 1 });
    const all = [
      follow(
        'a',
        queue.add(() => job('a')),
      ),
    ];
    await sleep(1);
    for (const [index, item] of items.entries()) {
      const fn = async (): Promise<string> => job(item);
      if (index % 2 === 1) all.push(follow(item, queue.add(fn, { priority: 1 })));
      else all.push(follow(item, queue.add(fn, { priority: -index })));
    }
    await Promise.all(all);
  },
  async ({ job, follow, sleep }) => {
    const queue = new PrioritizedGate(new Throttle({ concurrency: 1 }));
    const all = [
      follow(
        'a',
        queue.run(() => job('a')),
      ),
    ];
    await sleep(1);
    for (const [index, item] of items.entries()) {
      const fn = async (): Promise<string> => job(item);
      if (index % 2 === 1) all.push(follow(item, queue.run(fn, 1)));
      else all.push(follow(item, queue.run(fn, -index)));
    }
    await Promise.all(all);
  },
);

row(
  "queue.setPriority('d', 3), id",
  async ({ job, sleep }) => {
    const queue = new PQueue({ concurrency: 1 });
    const all = [queue.add(() => job('first'))];
    await sleep(1);
    for (const id of items) all.push(queue.add(() => job(id), { id }));
    queue.setPriority('d', 3);
    await Promise.all(all);
  },
  async ({ job, sleep }) => {
    const queue = new PrioritizedGate(new Throttle({ concurrency: 1 }));
    const all = [queue.run(() => job('first'))];
    await sleep(1);
    let last: (typeof queue.jobs)[number] | undefined;
    for (const id of items) {
      all.push(queue.run(() => job(id)));
      if (id === 'd') last = queue.jobs.at(-1);
    }
    if (last !== undefined) last.priority = 3;
    queue.jobs.sort((a, b) => b.priority - a.priority);
    await Promise.all(all);
  },
);

row(
  'queue.sizeBy({ priority: 1 })',
  async ({ job, note, sleep }) => {
    const queue = new PQueue({ concurrency: 1 });
    const all = [queue.add(() => job('first'))];
    await sleep(1);
    for (const [index, item] of items.entries()) all.push(queue.add(() => job(item), { priority: index % 2 }));
    for (let step = 0; step < 4; step++) {
      note('waiting', queue.sizeBy({ priority: 1 }));
      await sleep(25);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const queue = new PrioritizedGate(new Throttle({ concurrency: 1 }));
    const all = [queue.run(() => job('first'))];
    await sleep(1);
    for (const [index, item] of items.entries()) all.push(queue.run(() => job(item), index % 2));
    for (let step = 0; step < 4; step++) {
      note('waiting', queue.jobs.filter(({ priority }) => priority === 1).length);
      await sleep(25);
    }
    await Promise.all(all);
  },
);

row(
  'queue.clear()',
  async ({ job, note, sleep }) => {
    const queue = new PQueue({ concurrency: 2 });
    for (const item of items) void queue.add(() => job(item));
    await sleep(5);
    queue.clear();
    note('waiting', queue.size);
    await queue.add(() => job('later'));
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 2 });
    for (const item of items) gate.run(() => job(item)).catch(() => {});
    await sleep(5);
    gate.clear();
    note('waiting', gate.waiting);
    await gate.run(() => job('later'));
  },
);

row(
  'queue.onEmpty()',
  async ({ job, note }) => {
    const queue = new PQueue({ concurrency: 3 });
    const all = items.map((item) => queue.add(() => job(item)));
    await queue.onEmpty();
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
  'queue.onSizeLessThan(2)',
  async ({ job, note }) => {
    const queue = new PQueue({ concurrency: 1 });
    const all: Promise<unknown>[] = [];
    for (const item of items) {
      await queue.onSizeLessThan(2);
      note('added', item);
      all.push(queue.add(() => job(item)));
    }
    await Promise.all(all);
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 1 });
    const all: Promise<unknown>[] = [];
    for (const item of items) {
      await gate.idle({ below: 2 });
      note('added', item);
      all.push(gate.run(() => job(item)));
    }
    await Promise.all(all);
  },
);
