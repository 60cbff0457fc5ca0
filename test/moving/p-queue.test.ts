/** Each row of the table for p-queue, with both packages. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Throttle, type ThrottleMessage } from 'headgate';
import PQueue from 'p-queue';
import { onMessages, row } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'new PQueue({ concurrency: 2 })',
  async ({ job }) => {
    const queue = new PQueue({ concurrency: 2 });
    await Promise.all(items.map((item, index) => queue.add(() => job(item, 10 + index))));
  },
  async ({ job }) => {
    const gate = new Throttle({ concurrency: 2 });
    await Promise.all(items.map((item, index) => gate.run(() => job(item, 10 + index))));
  },
);

row(
  'queue.add(fn)',
  async ({ job, follow }) => {
    const queue = new PQueue({ concurrency: 1 });
    const fn = async (): Promise<string> => job('a');
    const failing = async (): Promise<string> => Promise.reject(new Error('failed'));
    await Promise.all([
      follow('fn', queue.add(fn)),
      follow('failing', queue.add(failing), String),
      follow('again', queue.add(fn)),
    ]);
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 1 });
    const fn = async (): Promise<string> => job('a');
    const failing = async (): Promise<string> => Promise.reject(new Error('failed'));
    await Promise.all([
      follow('fn', gate.run(fn)),
      follow('failing', gate.run(failing), String),
      follow('again', gate.run(fn)),
    ]);
  },
);

row(
  'queue.addAll(fns)',
  async ({ job, follow }) => {
    const queue = new PQueue({ concurrency: 2 });
    const fns = items.map((item, index) => async () => job(item, 20 - index));
    await follow('results', queue.addAll(fns));
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 2 });
    const fns = items.map((item, index) => async () => job(item, 20 - index));
    await follow(
      'results',
      gate.map(fns, (fn) => fn()),
    );
  },
);

row(
  'intervalCap: 2, interval: 1_000',
  async ({ job }) => {
    const queue = new PQueue({ intervalCap: 2, interval: 1_000 });
    await Promise.all(items.map((item) => queue.add(() => job(item))));
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    await Promise.all(items.map((item) => gate.run(() => job(item))));
  },
);

row(
  'autoStart: false, queue.start()',
  async ({ job, sleep }) => {
    const queue = new PQueue({ concurrency: 2, autoStart: false });
    const all = items.map((item) => queue.add(() => job(item)));
    await sleep(30);
    queue.start();
    await Promise.all(all);
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ concurrency: 2 });
    gate.pause();
    const all = items.map((item) => gate.run(() => job(item)));
    await sleep(30);
    gate.resume();
    await Promise.all(all);
  },
);

row(
  'queue.pause(), queue.isPaused',
  async ({ job, note, sleep }) => {
    const queue = new PQueue({ concurrency: 2 });
    const all = items.map((item) => queue.add(() => job(item)));
    await sleep(15);
    note('paused', queue.isPaused);
    queue.pause();
    note('paused', queue.isPaused);
    await sleep(50);
    queue.start();
    note('paused', queue.isPaused);
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 2 });
    const all = items.map((item) => gate.run(() => job(item)));
    await sleep(15);
    note('paused', gate.pausedFor > 0);
    gate.pause();
    note('paused', gate.pausedFor > 0);
    await sleep(50);
    gate.resume();
    note('paused', gate.pausedFor > 0);
    await Promise.all(all);
  },
);

row(
  'queue.size, queue.pending',
  async ({ job, note, sleep }) => {
    const queue = new PQueue({ concurrency: 3 });
    const all = items.map((item, index) => queue.add(() => job(item, 10 + index)));
    for (let step = 0; step < 10; step++) {
      note('counts', [queue.size, queue.pending]);
      await sleep(4);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ concurrency: 3 });
    const all = items.map((item, index) => gate.run(() => job(item, 10 + index)));
    for (let step = 0; step < 10; step++) {
      note('counts', [gate.waiting, gate.active]);
      await sleep(4);
    }
    await Promise.all(all);
  },
);

row(
  'queue.concurrency = 4',
  async ({ job, sleep }) => {
    const queue = new PQueue({ concurrency: 1 });
    const all = items.map((item) => queue.add(() => job(item, 20)));
    await sleep(5);
    queue.concurrency = 4;
    await Promise.all(all);
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ concurrency: 1 });
    const all = items.map((item) => gate.run(() => job(item, 20)));
    await sleep(5);
    gate.configure({ concurrency: 4 });
    await Promise.all(all);
  },
);

row(
  'queue.onIdle()',
  async ({ job, note }) => {
    const queue = new PQueue({ concurrency: 3 });
    for (const item of items) void queue.add(() => job(item));
    await queue.onIdle();
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
  'queue.add(fn, { signal })',
  async ({ job, follow, sleep }) => {
    const queue = new PQueue({ concurrency: 1 });
    const controller = new AbortController();
    const { signal } = controller;
    const fn = async (): Promise<string> => job('b');
    const all = [
      follow(
        'a',
        queue.add(() => job('a')),
      ),
      follow('b', queue.add(fn, { signal }), String),
      follow(
        'c',
        queue.add(() => job('c')),
      ),
    ];
    await sleep(5);
    controller.abort(new Error('the client has gone'));
    await Promise.all(all);
  },
  async ({ job, follow, sleep }) => {
    const gate = new Throttle({ concurrency: 1 });
    const controller = new AbortController();
    const { signal } = controller;
    const fn = async (): Promise<string> => job('b');
    const all = [
      follow(
        'a',
        gate.run(() => job('a')),
      ),
      follow('b', gate.run(fn, 1, { signal }), String),
      follow(
        'c',
        gate.run(() => job('c')),
      ),
    ];
    await sleep(5);
    controller.abort(new Error('the client has gone'));
    await Promise.all(all);
  },
);

row(
  'timeout: 50, throwOnTimeout: true',
  async ({ job, follow }) => {
    const queue = new PQueue({ concurrency: 1, timeout: 50, throwOnTimeout: true });
    await Promise.all([
      follow(
        'slow',
        queue.add(() => job('slow', 200)),
      ),
      follow(
        'fast',
        queue.add(() => job('fast')),
      ),
    ]);
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ concurrency: 1, ttl: 0.05 });
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
  // p-queue leaves the job running.
  { parts: ['starts', 'results'] },
);

row(
  "queue.on('active', …)",
  async ({ job, note }) => {
    const queue = new PQueue({ concurrency: 2 });
    queue.on('active', () => note('active'));
    await Promise.all(items.map((item) => queue.add(() => job(item))));
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 2 });
    const listener = (message: unknown): void => {
      if ((message as ThrottleMessage).throttle === gate) note('active');
    };
    subscribe('headgate:granted', listener);
    await Promise.all(items.map((item) => gate.run(() => job(item))));
    unsubscribe('headgate:granted', listener);
  },
);

row(
  "queue.on('next', …)",
  async ({ job, note }) => {
    const queue = new PQueue({ concurrency: 2 });
    queue.on('next', () => note('next'));
    await Promise.all(items.map((item) => queue.add(() => job(item))));
  },
  async ({ job, note }) => {
    const gate = new Throttle({ concurrency: 2 });
    const stop = onMessages(gate, 'headgate:released', () => note('next'));
    await Promise.all(items.map((item) => gate.run(() => job(item))));
    stop();
  },
);

row(
  "queue.on('completed', …), queue.on('error', …)",
  async ({ job, note, follow }) => {
    const queue = new PQueue({ concurrency: 1 });
    queue.on('completed', (result) => note('completed', result));
    queue.on('error', (error) => note('error', String(error)));
    await Promise.all([
      follow(
        'a',
        queue.add(() => job('a')),
      ),
      follow(
        'b',
        queue.add(() => Promise.reject(new Error('b'))),
      ),
    ]);
  },
  async ({ job, note, follow }) => {
    const gate = new Throttle({ concurrency: 1 });
    const onCompleted = (result: unknown): void => note('completed', result);
    const onError = (error: unknown): void => note('error', String(error));
    const add = async (fn: () => Promise<string>): Promise<string> => {
      const result = gate.run(fn);
      result.then(onCompleted, onError);
      return result;
    };
    await Promise.all([
      follow(
        'a',
        add(() => job('a')),
      ),
      follow(
        'b',
        add(() => Promise.reject(new Error('b'))),
      ),
    ]);
  },
);
