import { RedisThrottle } from './dist/redis/index.js';
import { Redis } from 'ioredis';
const a = new Redis(7401); await a.flushall();
const open = (key) => new RedisThrottle({ client: a, key, ttl: 0.6 });
const uses = {
 refund: async (t) => { await t.configure({ capacity: 1, period: 1000 }); await t.run((p) => p.refund()); },
 refundAfter: async (t) => { await t.configure({ capacity: 1, period: 1000 }); const p = await t.acquire(); p.release(); p.refund(); },
 pause: async (t) => t.pause(0.3),
 endless: async (t) => { await t.pause(); await t.resume(); },
 reset: async (t) => { await t.pause(); await t.reset(); },
 lifted: async (t) => { await t.configure({ capacity: 1, period: 1e6 }); await t.run(() => {}); await t.configure({ capacity: Infinity }); },
 waiters: async (t) => { await t.configure({ concurrency: 1 }); await Promise.all([1, 2, 3].map(() => t.run(() => {}))); },
 look: async (t) => { await t.inspect(); await t.configure({ capacity: 5 }); },
};
const ts = []; for (const [k, f] of Object.entries(uses)) { const t = open(k); ts.push(t); await f(t); }
await Promise.all(ts.map((t) => t.close()));
await new Promise((r) => setTimeout(r, 1500));
for (const k of await a.keys('*')) console.log(k, await a.pttl(k), await a.type(k));
process.exit();
