/** The behaviour of the adapter for Koa. */
import http from 'node:http';
import Koa from 'koa';
import { koa, type Refusal } from 'headgate/http';
import { describe, expect, test } from 'vitest';
import { fullGate, refusingGate } from '../support/fixed-gates.js';
import { startServer } from '../support/framework-servers.js';
import { get, type Seen } from '../support/http-client.js';

const summaryOf = ({ status, headers, body }: Seen): unknown => [status, headers['retry-after'], body];

describe('koa', () => {
  test.each<[string, (refusal: Refusal, ctx: Koa.Context) => void, unknown]>([
    ['a body', (_refusal, ctx) => void (ctx.body = { own: true }), [429, '1', '{"own":true}']],
    [
      'a body and a status',
      (_refusal, ctx) => void Object.assign(ctx, { status: 503, body: 'own' }),
      [503, '1', 'own'],
    ],
    [
      'the bare response',
      (_refusal, ctx) => {
        ctx.respond = false;
        ctx.remove('content-length');
        ctx.res.end('own');
      },
      [429, '1', 'own'],
    ],
    [
      'the bare response, after it has returned',
      (_refusal, ctx) => {
        ctx.respond = false;
        ctx.remove('content-length');
        setTimeout(() => ctx.res.end('own'), 10);
      },
      [429, '1', 'own'],
    ],
  ])('onLimited can respond with %s', async (_, onLimited, expected) => {
    const app = new Koa();
    app.use(async (ctx, next) => {
      // An earlier body is not the response of onLimited.
      ctx.body = 'before';
      await next();
    });
    app.use(koa({ gate: fullGate(), onLimited }));
    const site = await startServer(http.createServer((req, res) => void app.callback()(req, res)));
    expect(summaryOf(await get(site))).toEqual(expected);
  });

  test('an earlier body is replaced by the default body of the refusal', async () => {
    const app = new Koa();
    app.use((ctx, next) => {
      ctx.body = 'before';
      return next();
    });
    app.use(koa({ gate: fullGate(), onLimited: () => {} }));
    const site = await startServer(http.createServer((req, res) => void app.callback()(req, res)));
    const { status, body } = await get(site);
    expect([status, JSON.parse(body)]).toMatchObject([429, { status: 429 }]);
  });

  test('a key can use the parameters of a router and the state that earlier middleware has set', async () => {
    const { keyed, keys } = refusingGate();
    const app = new Koa();
    app.use((ctx, next) => {
      ctx['params'] = { project: 'one' };
      ctx.state['tenant'] = 'acme';
      return next();
    });
    app.use(koa({ keyed, key: '{state.tenant}:{params.project}' }));
    const site = await startServer(http.createServer((req, res) => void app.callback()(req, res)));
    await get(site);
    expect(keys).toEqual(['acme:one']);
  });

  test('a request with an empty address is refused with 400', async () => {
    const { keyed } = refusingGate();
    const app = new Koa();
    app.use((ctx, next) => (Object.defineProperty(ctx, 'ip', { value: '' }), next()));
    app.use(koa({ keyed, key: 'ip' }));
    const site = await startServer(http.createServer((req, res) => void app.callback()(req, res)));
    const { status, body } = await get(site);
    expect([status, JSON.parse(body).detail]).toEqual([
      400,
      'The request has no client address; behind a proxy on a Unix socket, the server must trust the proxy.',
    ]);
  });
});
