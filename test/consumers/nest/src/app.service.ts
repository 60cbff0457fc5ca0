import { Injectable } from '@nestjs/common';
import { Throttle } from 'headgate';

/** The type of the parameter is the class, so Nest injects the throttle by its metadata. */
@Injectable()
export class AppService {
  constructor(private readonly throttle: Throttle) {}

  getHello(): Promise<string> {
    return this.throttle.run(() => 'Hello World!');
  }
}
