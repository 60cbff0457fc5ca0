import { Test, TestingModule } from '@nestjs/testing';
import { Throttle } from 'headgate';
import { ManualClock } from 'headgate/testing';
import { AppController } from './app.controller';
import { AppService } from './app.service';

describe('AppController', () => {
  const clock = new ManualClock();
  let appController: AppController;

  beforeEach(async () => {
    const app: TestingModule = await Test.createTestingModule({
      controllers: [AppController],
      providers: [AppService, { provide: Throttle, useFactory: () => new Throttle(1, 0, 60, { clock }) }],
    }).compile();

    appController = app.get<AppController>(AppController);
  });

  describe('root', () => {
    it('should return "Hello World!"', async () => {
      expect(await appController.getHello()).toBe('Hello World!');
    });

    it('should wait for the next minute', async () => {
      await appController.getHello();
      const second = appController.getHello().then((text) => `${text} ${clock.now()}`);
      await clock.advance(60);
      expect(await second).toBe('Hello World! 60');
    });
  });
});

describe('headgate', () => {
  it('should load every entry point', () => {
    const { exports } = require('headgate/package.json') as { exports: object };
    const paths = Object.keys(exports).filter((path) => path !== './package.json');
    expect(paths.length).toBeGreaterThanOrEqual(6);
    for (const path of paths) expect(require(`headgate${path.slice(1)}`)).toHaveProperty('__esModule', true);
  });
});
