/** The module: its options, injection of gates, checks at the start, and the shutdown. */
import assert from 'node:assert/strict';
import { Controller, Get, Injectable, Module, type ModuleMetadata } from '@nestjs/common';
import { ExternalContextCreator } from '@nestjs/core';
import { KeyedThrottle, Resource, Throttle } from 'headgate';
import {
  getGateToken,
  HeadgateModule,
  type HeadgateOptions,
  InjectGate,
  Limit,
  type LimitException,
  SkipLimit,
} from 'headgate/nest';
import { call, get, Latch, until } from '../support/http-client.js';
import { type Check, guarded, globalGuard, type Start } from './site.js';

@Controller()
class PlainController {
  @Get()
  get(): string {
    return 'plain';
  }
}

/** A gate with the `drain` of a `Throttle`: new calls are refused, and it resolves when all work has finished. */
function drainable(gate: Throttle, calls: string[]): Throttle {
  const { acquire, close } = gate;
  let draining = false;
  return Object.assign(gate, {
    acquire(...args: Parameters<typeof acquire>) {
      if (!draining) return acquire.apply(gate, args);
      const closed = new Throttle(1);
      closed.close();
      return closed.acquire();
    },
    async drain() {
      calls.push('drain');
      draining = true;
      await gate.idle();
      calls.push('drained');
    },
    close(reason?: unknown) {
      calls.push('close');
      close.call(gate, reason);
    },
  });
}

const fails = (start: Start, metadata: ModuleMetadata, message: RegExp): Promise<void> =>
  assert.rejects(start(metadata), (error: Error) => {
    assert.match(error.message, message);
    return true;
  });

export const moduleChecks: Check[] = [
  {
    name: '@InjectGate injects the gates of limits into constructors and properties of services',
    async run(start) {
      const gates = { mail: new Throttle(10, 2), perUser: new KeyedThrottle(10), default: new Resource(3) };
      @Injectable()
      class MailService {
        @InjectGate('perUser') readonly perUser!: KeyedThrottle;
        readonly gate: Throttle;
        readonly shared: Resource;

        constructor(@InjectGate('mail') gate: Throttle, @InjectGate() shared: Resource) {
          this.gate = gate;
          this.shared = shared;
        }
      }
      // A module that does not import HeadgateModule.
      @Module({ providers: [MailService], exports: [MailService] })
      class MailModule {}
      const { app } = await start({ imports: [HeadgateModule.forRoot({ limits: gates }), MailModule] });
      const service = app.get(MailService);
      assert.equal(service.gate, gates.mail);
      assert.equal(service.shared, gates.default);
      assert.equal(service.perUser, gates.perUser);
      assert.equal(app.get(getGateToken('mail')), gates.mail);
      assert.equal(app.get(getGateToken()), gates.default);
    },
  },
  {
    name: 'forRootAsync creates the limits from injected settings, with gates for @InjectGate by their names',
    async run(start) {
      @Module({ providers: [{ provide: 'PER_MINUTE', useValue: 1 }], exports: ['PER_MINUTE'] })
      class SettingsModule {}
      @Injectable()
      class Service {
        readonly gate: Throttle;

        constructor(@InjectGate('exports') gate: Throttle) {
          this.gate = gate;
        }
      }
      const headgate = HeadgateModule.forRootAsync({
        imports: [SettingsModule],
        inject: ['PER_MINUTE'],
        names: ['exports'],
        useFactory: async (perMinute: number) => ({
          limits: { default: new Throttle(perMinute, 0, 60), exports: new Throttle(2) },
        }),
      });
      for (let application = 0; application < 2; application++) {
        const site = await start({
          imports: [headgate],
          controllers: [PlainController],
          providers: [Service, globalGuard],
        });
        assert.equal(site.app.get(Service).gate.capacity, 2);
        assert.deepEqual([(await get(site)).status, (await get(site)).status], [200, 429]);
        await site.app.close();
      }
      await fails(
        start,
        { imports: [HeadgateModule.forRootAsync({ names: ['missing'], useFactory: () => ({}) })] },
        /no limit has the name "missing"; HeadgateModule has no limits/,
      );
    },
  },
  {
    name: 'with global: false, only modules that import the limits have them',
    async run(start) {
      const headgate = HeadgateModule.forRoot({ limits: { default: new Throttle(1, 0, 60) }, global: false });
      @Controller('other')
      class OtherController {
        @Get()
        get(): string {
          return 'other';
        }
      }
      @Module({ imports: [headgate], controllers: [OtherController], providers: [globalGuard] })
      class OtherModule {}
      const site = await start({ imports: [OtherModule] });
      assert.deepEqual([(await get(site, '/other')).status, (await get(site, '/other')).status], [200, 429]);
      @Module({ providers: [{ provide: 'gate', inject: [getGateToken()], useFactory: (gate: unknown) => gate }] })
      class OutsideModule {}
      await fails(start, { imports: [headgate, OutsideModule] }, /headgate gate "default"/);
    },
  },
  {
    name: 'an application with a wrong limit does not start, and the error names the place',
    async run(start) {
      @Controller()
      class UnknownController {
        @Get()
        @Limit('exports')
        @Limit('exprts')
        get(): string {
          return 'unknown';
        }
      }
      @Controller()
      @SkipLimit('defualt')
      class SkipController extends PlainController {}
      @Controller()
      class KeylessController {
        @Get()
        @Limit('perUser')
        get(): string {
          return 'keyless';
        }
      }
      @Controller()
      class CostController {
        @Get()
        @Limit({ gate: new Throttle(1), cost: -1 })
        get(): string {
          return 'cost';
        }
      }
      const limits = { exports: new Throttle(1), perUser: new KeyedThrottle(1) };
      const imports = [HeadgateModule.forRoot({ limits, drain: false })];
      for (const [controller, message] of [
        [UnknownController, /^UnknownController\.get: no limit has the name "exprts"; .* "exports", "perUser"$/],
        [SkipController, /^SkipController: no limit has the name "defualt"/],
        [KeylessController, /^KeylessController\.get: key must be set if and only if keyed is set, received undefined/],
        [CostController, /^CostController\.get: cost must be a finite number >= 0, received -1/],
      ] as const)
        await fails(start, { imports, controllers: [controller] }, message);
    },
  },
  {
    name: 'wrong options of the module are refused at once',
    async run() {
      const gate = new Throttle(1);
      for (const [options, message] of [
        [1, /^options must be an object, received 1/],
        [{ limits: 1 }, /^limits must be an object/],
        [{ limits: { exports: 1 } }, /^limits\.exports must be an object/],
        [{ limits: { exports: {} } }, /^limits\.exports must be a gate, or the options of a limit/],
        [{ gates: { exports: gate } }, /^unknown option "gates" of HeadgateModule\.forRoot; did you mean "gate"/],
        [{ wait: 1 }, /^options must be a gate, or the options of a limit/],
        [{ gate, limits: { default: gate } }, /state the limit "default" once/],
        [{ drain: -1 }, /^drain must be false or a number from 0 to 2147483, received -1/],
        [{ drain: true }, /^drain must be/],
        [{ http: 1 }, /^http must be a function/],
      ] as const)
        assert.throws(() => HeadgateModule.forRoot(options as unknown as HeadgateOptions), { message });
      assert.throws(() => HeadgateModule.forRootAsync({} as never), { message: /^useFactory must be a function/ });
      assert.throws(() => HeadgateModule.forRootAsync(undefined as never), { message: /^options must be an object/ });
      assert.throws(() => Limit(1 as never), { message: /^limit must be the name of a limit of HeadgateModule/ });
      assert.throws(() => Limit('a', 1 as never), { message: /^overrides must be an object/ });
      assert.throws(() => SkipLimit(1 as never), { message: /^names must be names of limits, received 1/ });
    },
  },
  {
    name: 'a default limit without a guard is reported when the application starts',
    async run(start) {
      const unguarded = await start({ imports: [HeadgateModule.forRoot({ gate: new Throttle(1) })] });
      assert.match(String(unguarded.logged), /The limit "default" applies to no route/);
      assert.deepEqual((await start(guarded({ gate: new Throttle(1) }, []))).logged, []);
    },
  },
  {
    name: 'a shutdown drains the gates before the server closes: running and queued requests finish',
    async run(start) {
      const calls: string[] = [];
      const gate = drainable(new Throttle(Infinity, 1), calls);
      const other = new Resource(1);
      const finish = new Latch();
      @Controller()
      class WorkController {
        @Get()
        async work(): Promise<string> {
          await finish.opened;
          return 'done';
        }
      }
      const site = await start(
        guarded({ limits: { default: { gate, wait: 5 }, same: gate, other } }, [WorkController]),
      );
      const [running, queued] = [call(site), call(site)];
      await until(() => gate.waiting === 1);
      const closed = site.app.close();
      await until(() => calls.length === 1);
      assert.equal((await get(site)).status, 503);
      finish.open();
      assert.deepEqual([(await running.seen).status, (await queued.seen).status], [200, 200]);
      await closed;
      assert.deepEqual(calls.slice(0, 3), ['drain', 'drained', 'close']);
      assert.equal(gate.closed, true);
      assert.equal(other.closed, true);
      await site.app.close();
      assert.equal(calls.filter((each) => each === 'drain').length, 1);
      assert.deepEqual(site.logged, []);
    },
  },
  {
    name: 'a shutdown waits at most for the time of drain, and survives a gate that fails',
    async run(start) {
      const calls: string[] = [];
      const busy = drainable(new Throttle(Infinity, 1), calls);
      const faulty = Object.assign(new Throttle(1), {
        drain() {
          throw new Error('drain failed');
        },
        close: () => Promise.reject(new Error('close failed')),
      });
      await busy.acquire();
      const waiter = assert.rejects(
        busy.run(() => 1),
        { code: 'ERR_THROTTLE_CLOSED', cause: 'the application shuts down' },
      );
      const { app, logged } = await start({
        imports: [HeadgateModule.forRoot({ limits: { busy, faulty }, drain: 0.05 })],
      });
      await app.close();
      await waiter;
      assert.equal(busy.closed, true);
      const texts = logged.map(String);
      assert.ok(texts.some((text) => text.includes('The work of the limit "busy" has not finished within 0.05 s')));
      assert.ok(texts.some((text) => text.includes('drain failed')));
      assert.ok(texts.some((text) => text.includes('close failed')));
    },
  },
  {
    name: 'with drain: false, a shutdown leaves the gates open; a closed gate is refused at the start',
    async run(start) {
      const calls: string[] = [];
      const gate = drainable(new Throttle(1), calls);
      const kept = await start({ imports: [HeadgateModule.forRoot({ limits: { gate }, drain: false })] });
      await kept.app.close();
      assert.deepEqual(calls, []);
      const metadata = { imports: [HeadgateModule.forRoot({ limits: { gate } })] };
      await (await start(metadata)).app.close();
      assert.equal(gate.closed, true);
      await fails(start, metadata, /The gate of the limit "gate" is closed\..*forRootAsync/);
    },
  },
  {
    name: 'contexts without HTTP: the default limit passes, @Limit throws; both count with the option http',
    async run(start) {
      const request = { headers: {}, url: '/graphql', ip: '192.0.2.1', socket: { destroyed: false, on() {} } };
      const sent: Record<string, string> = {};
      const response = {
        headersSent: false,
        socket: {},
        on() {},
        setHeader: (name: string, value: string) => void (sent[name] = value),
      };
      class Resolver {
        plain(): string {
          return 'plain';
        }

        @Limit('own')
        limited(): string {
          return 'limited';
        }
      }
      /** Calls a method as the GraphQL package does: with guards, in a context of the type `graphql`. */
      const callers = async (
        options: HeadgateOptions,
      ): Promise<Record<'plain' | 'limited', () => Promise<unknown>>> => {
        const { app } = await start(guarded(options, [], [Resolver]));
        const instance = app.get(Resolver);
        const creator = app.get(ExternalContextCreator);
        const create = (name: 'plain' | 'limited') => {
          const method = creator.create(
            instance,
            instance[name],
            name,
            undefined,
            undefined,
            undefined,
            undefined,
            { guards: true, filters: false, interceptors: false },
            'graphql',
          ) as (...args: unknown[]) => Promise<unknown>;
          return () => method({}, {}, { request, response });
        };
        return { plain: create('plain'), limited: create('limited') };
      };
      const limits = (): HeadgateOptions['limits'] => ({
        default: new Throttle(1, 0, 60, { name: 'default' }),
        own: { keyed: new KeyedThrottle(1, 0, 60), key: 'ip' },
      });

      const without = await callers({ limits: limits() });
      assert.deepEqual([await without.plain(), await without.plain()], ['plain', 'plain']);
      await assert.rejects(without.limited(), {
        name: 'TypeError',
        message: /^@Limit of Resolver\.limited counts HTTP requests, but the context has the type "graphql"/,
      });

      const never = await callers({ limits: limits(), http: () => undefined });
      assert.deepEqual([await never.plain(), await never.limited()], ['plain', 'limited']);

      const counted = await callers({
        limits: limits(),
        http: (context) => context.getArgByIndex<{ request: object; response: object }>(2),
      });
      assert.equal(await counted.limited(), 'limited');
      assert.match(sent['RateLimit-Policy'] ?? '', /"default"/);
      // One HTTP request counts once, however many resolvers it calls.
      assert.equal(await counted.limited(), 'limited');
      Object.assign(request, { [Symbol.for('headgate.request')]: undefined });
      await assert.rejects(counted.plain(), (error: LimitException) => error.getStatus() === 429);
    },
  },
  {
    name: 'LimitGuard without a default limit admits every request',
    async run(start) {
      const site = await start({
        imports: [HeadgateModule.forRoot({ limits: {} })],
        controllers: [PlainController],
        providers: [globalGuard],
      });
      assert.equal((await get(site)).status, 200);
    },
  },
];
