/** The checks of `headgate/nest`, in real applications of the installed version of Nest, on Express and on Fastify. */
import { Controller, Get, type INestApplication, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { Throttle } from 'headgate';
import { HEADGATE_OPTIONS, HeadgateModule } from 'headgate/nest';
import { describe, expect, test } from 'vitest';
import { get, listen } from '../support/http-client.js';
import { checks } from './checks.js';
import { globalGuard, runCheck } from './site.js';

describe.each(['express', 'fastify'] as const)('on %s', (platform) => {
  test.each(checks)('$name', (check) => runCheck(check, platform));
});

test('a test replaces the options of an application by overrideProvider', async () => {
  @Controller()
  class PlainController {
    @Get()
    get(): string {
      return 'plain';
    }
  }
  @Module({
    imports: [HeadgateModule.forRoot({ gate: new Throttle(1, 0, 60) })],
    controllers: [PlainController],
    providers: [globalGuard],
  })
  class AppModule {}
  const app: INestApplication = (
    await Test.createTestingModule({ imports: [AppModule] })
      .overrideProvider(HEADGATE_OPTIONS)
      .useValue({ gate: new Throttle(2, 0, 60) })
      .compile()
  ).createNestApplication();
  await app.init();
  const port = await listen(app.getHttpServer());
  const statuses: number[] = [];
  for (let request = 0; request < 3; request++) statuses.push((await get({ port })).status);
  await app.close();
  expect(statuses).toEqual([200, 200, 429]);
});
