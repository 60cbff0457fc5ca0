/** The release of a slot with `hold: 'body'`. */
import { EventEmitter } from 'node:events';
import { describe, expect, test } from 'vitest';
import { expectNothingHeld, registerHooks, retryAfter, setUpFetch, URL_A } from './fake-upstream.js';

registerHooks();

describe("hold: 'body'", () => {
  type Controller = ReadableStreamDefaultController<Uint8Array>;
  test.each<[string, (response: Response, controller: Controller) => unknown]>([
    [
      'read',
      (response, controller) => {
        controller.close();
        return response.text();
      },
    ],
    ['cancelled', (response) => response.body!.cancel()],
    ['failed', (_, controller) => controller.error(new Error('lost'))],
  ])('holds the slot until the body is %s', async (_, end) => {
    let controller!: Controller;
    const reply = new Response(new ReadableStream({ start: (created) => void (controller = created) }));
    const { clock, throttle, limitedFetch } = setUpFetch([reply], { hold: 'body' }, [100, 1]);
    const response = await limitedFetch(URL_A);
    const next = limitedFetch(URL_A);
    await clock.advance(10);
    expect([throttle.active, throttle.waiting]).toEqual([1, 1]);
    await end(response, controller);
    expect(await (await next).text()).toBe('ok');
    expectNothingHeld(throttle);
  });

  test('holds no slot for a response without a body', async () => {
    const { throttle, limitedFetch } = setUpFetch([new Response(null, { status: 204 })], { hold: 'body' });
    expect((await limitedFetch(URL_A)).status).toBe(204);
    expectNothingHeld(throttle);
  });

  test.each([
    ['HEAD', 0],
    ['GET', 1],
  ])('the response to a %s of a client with Node streams holds %i slots', async (method, active) => {
    const reply = { status: 200, headers: new Headers(), bodyUsed: false, body: new EventEmitter() };
    const { throttle, limitedFetch } = setUpFetch([reply as unknown as Response], { hold: 'body' });
    const response = await limitedFetch(URL_A, { method });
    expect(throttle.active).toBe(active);
    (response.body as unknown as EventEmitter).emit('end');
    expectNothingHeld(throttle);
  });

  test('holds the slot for a refusal that is returned', async () => {
    const { throttle, limitedFetch } = setUpFetch([retryAfter(1)], { hold: 'body', retries: 0 });
    const response = await limitedFetch(URL_A);
    expect(throttle.active).toBe(1);
    expect(await response.text()).toBe('slow down');
    expectNothingHeld(throttle);
  });

  test('is not the default: the headers release the slot', async () => {
    const { throttle, limitedFetch } = setUpFetch([new Response(new ReadableStream())]);
    await limitedFetch(URL_A);
    expectNothingHeld(throttle);
  });
});
