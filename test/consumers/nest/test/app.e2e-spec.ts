import { Test, TestingModule } from '@nestjs/testing';
import { INestApplication } from '@nestjs/common';
import { Throttle } from 'headgate';
import request from 'supertest';
import { App } from 'supertest/types';
import { AppModule } from './../src/app.module';

describe('AppController (e2e)', () => {
  let app: INestApplication<App>;

  beforeEach(async () => {
    const moduleFixture: TestingModule = await Test.createTestingModule({
      imports: [AppModule],
    }).compile();

    app = moduleFixture.createNestApplication();
    await app.init();
  });

  it('/ (GET)', async () => {
    await request(app.getHttpServer()).get('/').expect(200).expect('Hello World!');
    expect(app.get(Throttle).tryAcquire()).toBeUndefined();
    app.get(Throttle).correct(1);
    await request(app.getHttpServer()).get('/').expect(200);
    await request(app.getHttpServer()).get('/').expect(429).expect('Retry-After', '30');
  });

  afterEach(async () => {
    await app.close();
  });
});
