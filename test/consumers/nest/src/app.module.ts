import { type MiddlewareConsumer, Module, type NestModule } from '@nestjs/common';
import { Throttle } from 'headgate';
import { express } from 'headgate/http';
import { AppController } from './app.controller';
import { AppService } from './app.service';

@Module({
  imports: [],
  controllers: [AppController],
  providers: [AppService, { provide: Throttle, useValue: new Throttle(1, 0, 60, { name: 'upstream' }) }],
})
export class AppModule implements NestModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(express({ gate: new Throttle(2, 0, 60) })).forRoutes(AppController);
  }
}
