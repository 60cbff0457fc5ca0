/** Each row of the table for p-throttle, with both packages. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Throttle, type ThrottleMessage } from 'headgate';
import pThrottle from 'p-throttle';
import { row } from './scene.js';

const items = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

row(
  'pThrottle({ limit: 2, interval: 1_000 })',
  async ({ job }) => {
    const throttle = pThrottle({ limit: 2, interval: 1_000 });
    const throttled = throttle((item: string) => job(item));
    await Promise.all(items.map((item) => throttled(item)));
  },
  async ({ job }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    const throttled = gate.wrap((item: string) => job(item));
    await Promise.all(items.map((item) => throttled(item)));
  },
);

row(
  'strict: true',
  async ({ job, sleep }) => {
    const throttled = pThrottle({ limit: 2, interval: 1_000, strict: true })((item: string) => job(item));
    const all: Promise<string>[] = [];
    for (const item of items) {
      all.push(throttled(item));
      await sleep(300);
    }
    await Promise.all(all);
  },
  async ({ job, sleep }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    const throttled = gate.wrap((item: string) => job(item));
    const all: Promise<string>[] = [];
    for (const item of items) {
      all.push(throttled(item));
      await sleep(300);
    }
    await Promise.all(all);
  },
);

row(
  'throttle(fn)',
  async ({ job, follow }) => {
    const throttle = pThrottle({ limit: 2, interval: 1_000 });
    const fn = async (item: string, ms: number): Promise<string> => job(item, ms);
    const throttled = throttle(fn);
    await Promise.all(items.map((item, index) => follow(item, throttled(item, 5 * index))));
  },
  async ({ job, follow }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    const fn = async (item: string, ms: number): Promise<string> => job(item, ms);
    const throttled = gate.wrap(fn);
    await Promise.all(items.map((item, index) => follow(item, throttled(item, 5 * index))));
  },
);

row(
  'weight',
  async ({ job }) => {
    const weight = (_item: string, cost: number): number => cost;
    const throttle = pThrottle({ limit: 4, interval: 1_000, strict: true, weight });
    const throttled = throttle((item: string, _cost: number) => job(item));
    await Promise.all(items.map((item, index) => throttled(item, [2, 2, 4, 1, 3, 4, 1][index] ?? 1)));
  },
  async ({ job }) => {
    const weight = (_item: string, cost: number): number => cost;
    const gate = new Throttle({ capacity: 4, window: 'sliding' });
    const throttled = gate.wrap((item: string, _cost: number) => job(item), weight);
    await Promise.all(items.map((item, index) => throttled(item, [2, 2, 4, 1, 3, 4, 1][index] ?? 1)));
  },
);

row(
  'signal',
  async ({ job, follow, sleep }) => {
    const controller = new AbortController();
    const { signal } = controller;
    const fn = pThrottle({ limit: 2, interval: 1_000, signal })((item: string) => job(item));
    const all = items.map((item) => follow(item, fn(item), String));
    await sleep(1_500);
    controller.abort(new Error('stop'));
    await Promise.all(all);
  },
  async ({ job, follow, sleep }) => {
    const controller = new AbortController();
    const { signal } = controller;
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    const all = items.map((item) => {
      const fn = async (): Promise<string> => job(item);
      return follow(item, gate.run(fn, 1, { signal }), String);
    });
    await sleep(1_500);
    controller.abort(new Error('stop'));
    await Promise.all(all);
  },
);

row(
  'onDelay',
  async ({ job, note, sleep }) => {
    const onDelay = (): void => note('delayed');
    const throttled = pThrottle({ limit: 2, interval: 1_000, onDelay })((item: string) => job(item));
    const all: Promise<string>[] = [];
    for (const item of items.slice(0, 4)) {
      all.push(throttled(item));
      await sleep(200);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    const onDelay = (message: unknown): void => {
      if ((message as ThrottleMessage).throttle === gate) note('delayed');
    };
    subscribe('headgate:queued', onDelay);
    const throttled = gate.wrap((item: string) => job(item));
    const all: Promise<string>[] = [];
    for (const item of items.slice(0, 4)) {
      all.push(throttled(item));
      await sleep(200);
    }
    await Promise.all(all);
    unsubscribe('headgate:queued', onDelay);
  },
  // In its default mode, p-throttle starts the last calls earlier than a strict window.
  { parts: ['notes'] },
);

row(
  'throttled.queueSize',
  async ({ job, note, sleep }) => {
    const throttled = pThrottle({ limit: 2, interval: 1_000 })((item: string) => job(item));
    const all = items.map((item) => throttled(item));
    for (let step = 0; step < 5; step++) {
      note('waiting', throttled.queueSize);
      await sleep(800);
    }
    await Promise.all(all);
  },
  async ({ job, note, sleep }) => {
    const gate = new Throttle({ capacity: 2, window: 'sliding' });
    const throttled = gate.wrap((item: string) => job(item));
    const all = items.map((item) => throttled(item));
    for (let step = 0; step < 5; step++) {
      note('waiting', gate.waiting);
      await sleep(800);
    }
    await Promise.all(all);
  },
);
