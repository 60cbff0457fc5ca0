/** The hold on a permit with `hold: 'handler'` in every adapter, on the real frameworks and over real sockets. */
import net from 'node:net';
import { Throttle } from 'headgate';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { sites } from '../support/framework-servers.js';
import { call, get, Latch, until } from '../support/http-client.js';
import { activeOf, countingHandler, limitOfOne, pause } from './hold-support.js';

/** Records the timers with a delay of `ms` milliseconds. */
const timersOf = (
  ms: number,
): { readonly all: { timer: NodeJS.Timeout; fire: () => void }[]; cleared: (timer: NodeJS.Timeout) => boolean } => {
  const set = vi.spyOn(globalThis, 'setTimeout');
  const clear = vi.spyOn(globalThis, 'clearTimeout');
  onTestFinished(() => {
    set.mockRestore();
    clear.mockRestore();
  });
  return {
    get all() {
      return set.mock.calls.flatMap(([callback, delay], index) =>
        delay === ms ? [{ timer: set.mock.results[index]?.value as NodeJS.Timeout, fire: callback }] : [],
      );
    },
    cleared: (timer) => clear.mock.calls.some(([cleared]) => (cleared as unknown) === timer),
  };
};

describe.each(sites)('%s', (_, serve) => {
  test('a client that drops connections never runs more handlers than the limit (FAULTS 26, Ghost#30853)', async () => {
    const { keyed, options } = limitOfOne();
    const counts = countingHandler(500);
    const site = await serve(options, counts);
    for (let index = 0; index < 10; index++) {
      const dropped = call(site);
      await pause(20);
      dropped.hangUp();
    }
    await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of every slot');
    // On a slow machine, the slot may be free again for one of the last requests.
    expect([counts.maxRunning, counts.started < 5]).toEqual([1, true]);
    expect((await get(site)).status).toBe(200);
    await until(() => activeOf(keyed) === 0);
    expect(site.failures).toEqual([]);
  });

  test('the slot of a disconnected client is held until its handler has finished (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, { handler: async () => (await latch.opened, 'done') });
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    dropped.hangUp();
    await pause(50);
    expect([activeOf(keyed), (await get(site)).status]).toEqual([1, 429]);
    latch.open();
    await until(() => activeOf(keyed) === 0);
    expect((await get(site)).status).toBe(200);
  });

  test('a handler that fails after its client disconnected frees its slot (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, {
      handler: async () => {
        await latch.opened;
        throw new Error('no');
      },
    });
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    dropped.hangUp();
    await pause(30);
    expect(activeOf(keyed)).toBe(1);
    latch.open();
    await until(() => activeOf(keyed) === 0);
  });

  test('an unreferenced timer frees the slot 60 s after the client disconnected (FAULTS 26)', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const site = await serve(options, { handler: () => new Promise(() => {}) });
    const before = timers.all.length;
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    expect(timers.all.length).toBe(before);
    dropped.hangUp();
    await until(() => timers.all.length > before);
    const [{ timer, fire } = {} as never, ...others] = timers.all.slice(before);
    expect([others, timer.hasRef(), activeOf(keyed)]).toEqual([[], false, 1]);
    fire();
    expect(activeOf(keyed)).toBe(0);
    clearTimeout(timer);
  });

  test('a handler that finishes after its client disconnected clears the timer of its slot', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const latch = new Latch();
    const site = await serve(options, { handler: async () => (await latch.opened, 'done') });
    const before = timers.all.length;
    const dropped = call(site);
    await until(() => activeOf(keyed) === 1);
    dropped.hangUp();
    await until(() => timers.all.length > before);
    latch.open();
    await until(() => activeOf(keyed) === 0);
    expect(timers.cleared(timers.all[before]!.timer)).toBe(true);
  });

  test('a response that was sent completely frees its slot without a timer', async () => {
    const { keyed, options } = limitOfOne();
    const timers = timersOf(60_000);
    const site = await serve(options);
    const before = timers.all.length;
    for (let index = 0; index < 5; index++) {
      expect((await get(site)).status).toBe(200);
      await until(() => activeOf(keyed) === 0);
    }
    expect(timers.all.length).toBe(before);
  });

  test('a streamed response holds its slot until the stream ends, also if the client disconnects', async () => {
    const { keyed, options } = limitOfOne();
    const latch = new Latch();
    const site = await serve(options, {
      async *handler() {
        yield 'first ';
        await latch.opened;
        yield 'last';
      },
    });
    const streaming = call(site);
    expect(await streaming.started).toBe('first ');
    expect([activeOf(keyed), (await get(site)).status]).toEqual([1, 429]);
    streaming.hangUp();
    latch.open();
    await until(() => activeOf(keyed) === 0);
  });

  test('a half-sent request that is dropped frees its slot (FAULTS 37)', async () => {
    const { keyed, options } = limitOfOne();
    const counts = countingHandler(50);
    const acquire = vi.spyOn(keyed, 'acquire');
    const site = await serve(options, counts);
    for (let index = 1; index <= 5; index++) {
      const socket = net.connect(site.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nhalf');
      await until(() => acquire.mock.calls.length === index);
      await pause(5);
      socket.resetAndDestroy();
      await until(() => activeOf(keyed) === 0 && counts.running === 0, 'the release of the slot');
    }
    expect(counts.maxRunning).toBeLessThanOrEqual(1);
    // A request with unfinished headers reaches no handler, and takes no slot.
    const headers = net.connect(site.port, '127.0.0.1');
    headers.write('GET / HTTP/1.1\r\nhost: x\r\nx-half:');
    expect((await get(site)).status).toBe(200);
    expect(acquire).toHaveBeenCalledTimes(6);
    headers.destroy();
  });

  test('a ttl frees the slot of a client that does not read its response (FAULTS 37)', async () => {
    for (const hold of ['response', 'handler'] as const) {
      const gate = new Throttle(Infinity, 1);
      const chunk = 'x'.repeat(1 << 20);
      const site = await serve(
        { gate, ttl: 0.15, hold },
        {
          async *handler() {
            for (let index = 0; index < 32; index++) yield chunk;
          },
        },
      );
      const socket = net.connect(site.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.pause();
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
      await until(() => gate.active === 1);
      await until(() => gate.active === 0);
      expect(socket.bytesRead).toBeLessThan(32 << 20);
      socket.destroy();
    }
  });

  test('a ttl frees the slot of an unfinished handler whose client has disconnected', async () => {
    const gate = new Throttle(Infinity, 1);
    const site = await serve({ gate, ttl: 0.1, hold: 'handler' }, { handler: () => new Promise(() => {}) });
    const dropped = call(site);
    await until(() => gate.active === 1);
    dropped.hangUp();
    await until(() => gate.active === 0);
  });

  test('a pipelined request takes its permit when it is the turn of its response (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 20);
    const latch = new Latch();
    const counts = countingHandler(1);
    const site = await serve(
      { gate, wait: 5, skip: (...args: unknown[]) => slowPath(args) },
      { handler: async (path) => (path === '/slow' ? (await latch.opened, 'slow') : counts.handler()) },
    );
    const socket = net.connect(site.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => void (text += chunk));
    socket.write('GET /slow HTTP/1.1\r\nhost: x\r\n\r\n');
    for (let index = 0; index < 20; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await pause(50);
    expect([gate.active, gate.waiting, counts.started]).toEqual([0, 0, 0]);
    expect((await get(site, '/other')).status).toBe(200);
    latch.open();
    await until(() => counts.started === 21 && text.split('HTTP/1.1 200').length === 22);
    expect(counts.maxRunning).toBe(1);
    await until(() => gate.active === 0);
    socket.destroy();
  });

  test('a limit of one serves pipelined requests in order (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 1);
    const order: string[] = [];
    for (const hold of ['response', 'handler'] as const) {
      const site = await serve(
        { gate, wait: 5, hold },
        { handler: async (path) => (order.push(path), await pause(2), path) },
      );
      const socket = net.connect(site.port, '127.0.0.1');
      let text = '';
      socket.setEncoding('latin1').on('data', (chunk: string) => void (text += chunk));
      for (let index = 0; index < 8; index++) socket.write(`GET /${index} HTTP/1.1\r\nhost: x\r\n\r\n`);
      await until(() => text.split('HTTP/1.1 200').length === 9);
      expect(order.splice(0)).toEqual(Array.from({ length: 8 }, (__, index) => `/${index}`));
      await until(() => gate.active === 0);
      socket.destroy();
    }
  });

  test('a pipelined request whose client disconnects before its turn takes no permit (FAULTS 36)', async () => {
    const gate = new Throttle(Infinity, 5);
    const counts = countingHandler(30);
    const site = await serve({ gate, hold: 'handler' }, counts);
    const socket = net.connect(site.port, '127.0.0.1');
    for (let index = 0; index < 5; index++) socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    await until(() => gate.active === 1);
    socket.destroy();
    await until(() => gate.active === 0 && counts.running === 0);
    await pause(20);
    expect([counts.started, gate.active]).toEqual([1, 0]);
  });
});

/** Whether the path of a request is `/slow`, in any framework. */
function slowPath([first]: unknown[]): boolean {
  const { url, req } = first as { url?: string; req?: { url: string } };
  return (url ?? req?.url ?? '').endsWith('/slow');
}
