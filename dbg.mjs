import { RedisThrottle } from './dist/redis/index.js';
import { Redis } from 'ioredis';
const a = new Redis(7401);
for (const m of ['evalsha','eval']) { const orig = a[m]; a[m] = function (...args) { console.log('>', args.slice(10).join(' ')); return orig.apply(this, args).then((x)=>(console.log('<', JSON.stringify(x)),x)); }; }
const key = 'k' + Math.random();
const t = new RedisThrottle({ client: a, key, capacity: 2, period: 1000 });
const f = await t.acquire(1); await t.reset(); const s = await t.acquire(1); f.refund(); console.log((await t.inspect()).tokens);
process.exit();
