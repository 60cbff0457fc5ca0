import { RedisThrottle } from './dist/redis/index.js';
import { Redis } from 'ioredis';
const a = new Redis(7401);
const key = 'k' + Math.random();
const st = async () => { const i = await a.info('commandstats'); const g = (c) => { const m = i.match(new RegExp(`cmdstat_${c}:calls=(\\d+),usec=(\\d+)`)); return m ? [+m[1], +m[2]] : [0, 0]; }; return { e: g('evalsha'), get: g('get'), set: g('set'), time: g('time'),exists:g('exists') }; };
const t = new RedisThrottle({ client: a, key, concurrency: 8 });
for (let i = 0; i < 1000; i++) (await t.acquire()).release();
for (let r = 0; r < 3; r++) {
const s0 = await st();
for (let i = 0; i < 3000; i++) (await t.acquire()).release();
const s1 = await st(); const n = s1.e[0] - s0.e[0]; console.log('usec per evalsha', (s1.e[1] - s0.e[1]) / n, 'calls', n, 'get', (s1.get[0]-s0.get[0])/n, 'set', (s1.set[0]-s0.set[0])/n, 'time', (s1.time[0]-s0.time[0])/n);
}
console.log(JSON.stringify((await a.get(`{headgate:${key}}`)).slice(0,11)));
const orig = a.evalsha; a.evalsha = function (...args) { console.log(args.slice(10)); return orig.apply(this, args).then((x)=>(console.log(x),x)); };
await t.close(); await t.idle(); console.log(await a.keys('*'+key+'*'));
const x = new RedisThrottle({ client: a, key: key+'x', concurrency: 2 });
let left = 3; await Promise.all(Array.from({ length: 3 }, async () => { while (left-- > 0) (await x.acquire()).release(); }));
await x.close(); await x.idle(); console.log(await a.keys('*'+key+'*'));
a.disconnect();
