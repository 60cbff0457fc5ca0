/** How long a request holds its permit. */
import assert from 'node:assert/strict';
import net from 'node:net';
import { Readable } from 'node:stream';
import { Controller, Get, type MessageEvent, Res, Sse, StreamableFile, UseGuards } from '@nestjs/common';
import { Observable } from 'rxjs';
import { KeyedThrottle, Resource } from 'headgate';
import { concurrencyLimit } from 'headgate/http';
import { HeadgateModule, Limit } from 'headgate/nest';
import { call, get, Latch, until } from '../support/http-client.js';
import { type Check, UserGuard } from './site.js';

const pause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms));

export const holdChecks: Check[] = [
  {
    name: 'two exports at a time for each user',
    async run(start) {
      const finish = new Latch();
      let running = 0;
      @Controller()
      @UseGuards(UserGuard)
      class ExportsController {
        @Get('export')
        @Limit('exports')
        async export(): Promise<string> {
          running++;
          await finish.opened;
          return 'all of it';
        }
      }
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: { exports: concurrencyLimit({ key: 'user', maxConcurrent: 2 }) } })],
        controllers: [ExportsController],
      });
      const ask = (user: string) => call(site, '/export', { headers: { 'x-user': user } });
      const first = [ask('ada'), ask('ada'), ask('bob')];
      await until(() => running === 3);
      const third = await ask('ada').seen;
      assert.equal(third.status, 429);
      assert.equal(third.headers['retry-after'], '1');
      finish.open();
      for (const { seen } of first) assert.equal((await seen).status, 200);
      assert.equal((await ask('ada').seen).status, 200);
    },
  },
  {
    name: 'a client that connects and drops gets no second handler (FAULTS 26)',
    async run(start) {
      const keyed = new KeyedThrottle(Infinity, 1);
      const finish = new Latch();
      let running = 0;
      let maxRunning = 0;
      let started = 0;
      @Controller()
      class AttackedController {
        @Get()
        @Limit(concurrencyLimit({ key: 'ip', maxConcurrent: 1, backend: keyed }))
        async work(): Promise<string> {
          started++;
          maxRunning = Math.max(maxRunning, ++running);
          await finish.opened;
          running--;
          return 'done';
        }
      }
      const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [AttackedController] });
      for (let request = 0; request < 10; request++) {
        const dropped = call(site);
        if (request === 0) await until(() => started === 1);
        await pause(10);
        dropped.hangUp();
      }
      assert.equal(maxRunning, 1);
      assert.equal(started, 1);
      finish.open();
      await until(() => running === 0 && keyed.size === 0);
      assert.equal((await get(site)).status, 200);
      assert.equal(maxRunning, 1);
    },
  },
  {
    name: "with hold: 'response', a permit is free when the client has gone, before the handler has finished",
    async run(start) {
      const gate = new Resource(1);
      const finish = new Latch();
      @Controller()
      class SlowController {
        @Get()
        @Limit({ gate })
        async work(): Promise<string> {
          await finish.opened;
          return 'done';
        }
      }
      const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [SlowController] });
      const dropped = call(site);
      await until(() => gate.active === 1);
      dropped.hangUp();
      await until(() => gate.active === 0);
      finish.open();
    },
  },
  {
    name: 'a request behind another one on its connection takes its permit when its response is next',
    async run(start) {
      const gate = new Resource(1);
      const finish = new Latch();
      let running = 0;
      @Controller()
      class PipelinedController {
        @Get('slow')
        async slow(): Promise<string> {
          running++;
          await finish.opened;
          return 'slow';
        }

        @Get('limited')
        @Limit({ gate })
        async limited(): Promise<string> {
          running++;
          return 'limited';
        }
      }
      const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [PipelinedController] });
      const socket = net.connect(site.port, '127.0.0.1');
      let received = '';
      socket.on('data', (data) => void (received += String(data)));
      const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
      socket.write(request('/slow') + request('/limited'));
      await until(() => running === 1);
      await pause(50);
      assert.equal(gate.active, 0);
      assert.equal(running, 1);
      finish.open();
      await until(() => received.includes('limited'));
      await until(() => gate.active === 0);
      socket.destroy();
    },
  },
  ...(['response', 'handler'] as const).flatMap((hold): Check[] => [
    {
      name: `a stream holds its permit until it ends, or until its client has gone (hold: '${hold}')`,
      async run(start) {
        const gate = new Resource(1);
        const streams: Readable[] = [];
        @Controller()
        class StreamController {
          @Get()
          @Limit({ gate, hold })
          stream(): StreamableFile {
            const stream = new Readable({ read: () => {} });
            stream.push('first');
            streams.push(stream);
            return new StreamableFile(stream);
          }
        }
        const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [StreamController] });
        const whole = call(site);
        assert.equal(await whole.started, 'first');
        assert.equal((await get(site)).status, 429);
        streams[0]!.push('last');
        streams[0]!.push(null);
        assert.equal((await whole.seen).body, 'firstlast');
        await until(() => gate.active === 0);

        const dropped = call(site);
        await dropped.started;
        dropped.hangUp();
        await until(() => gate.active === 0);
      },
    },
    {
      name: `server-sent events hold their permit until the client has gone (hold: '${hold}')`,
      async run(start) {
        const gate = new Resource(1);
        let unsubscribed = false;
        @Controller()
        class EventsController {
          @Sse()
          @Limit({ gate, hold })
          events(): Observable<MessageEvent> {
            return new Observable((subscriber) => {
              subscriber.next({ data: 'one' });
              return () => void (unsubscribed = true);
            });
          }
        }
        const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [EventsController] });
        const open = call(site);
        await open.started;
        assert.equal((await get(site)).status, 429);
        open.hangUp();
        await until(() => unsubscribed && gate.active === 0);
      },
    },
    {
      name: `a handler that sends the response itself holds its permit until then (hold: '${hold}')`,
      async run(start) {
        const gate = new Resource(1);
        const responses: { send(body: string): unknown }[] = [];
        @Controller()
        class OwnController {
          @Get()
          @Limit({ gate, hold })
          own(@Res() response: { send(body: string): unknown }): void {
            responses.push(response);
          }
        }
        const site = await start({ imports: [HeadgateModule.forRoot()], controllers: [OwnController] });
        const own = call(site);
        await until(() => responses.length === 1);
        await pause(20);
        assert.equal(gate.active, 1);
        responses[0]!.send('own');
        assert.equal((await own.seen).body, 'own');
        await until(() => gate.active === 0);
      },
    },
  ]),
];
