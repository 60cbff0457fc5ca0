/** A client of the shared server for a test file: from the start of its tests to their end. */
import type { Redis } from 'ioredis';
import { afterAll, beforeAll } from 'vitest';
import { ioredis } from './support.js';

export let client: Redis;
let close: () => Promise<void>;

beforeAll(() => {
  ({ client, close } = ioredis());
});
afterAll(() => close());
