/** A program in ESM of the same package. It gives a throttle to CommonJS, and takes one. */
import { createRequire } from 'node:module';
import { Limiter, Throttle } from 'headgate';
import { record } from 'headgate/testing';
import type * as required from 'headgate' with { 'resolution-mode': 'require' };

const { Resource } = createRequire(import.meta.url)('headgate') as typeof required;
const [throttle, resource] = [new Throttle(10), new Resource(1)];
const trace = record(resource);
const limiter = new Limiter({ timeout: 1, resources: [resource, throttle] });
await limiter.resources([resource, throttle])(() => console.log('active', resource.active, throttle.active))();
console.log(trace.events.map(({ kind }) => kind).join(' '));
