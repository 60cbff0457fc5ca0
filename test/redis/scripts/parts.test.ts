/** The functions of the parts, each called alone on a real server. */
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { keyNames } from '../../../src/redis/key-names.js';
import { BUCKET_SCENARIOS, READY_TABLE, SETTLE_TABLE } from '../../core/token-bucket-tables.js';
import { freshKey, ioredis } from '../support.js';
import { START, withParts } from './support.js';

let client: Redis;
let end: () => Promise<void>;
beforeAll(() => {
  ({ client, close: end } = ioredis());
});
afterAll(() => end());

const PARTS = [
  'fast-path',
  'state',
  'events',
  'bucket',
  'settlement-log',
  'slots',
  'leases',
  'owners',
  'owner-changes',
];
const ALL_PARTS = [...PARTS, 'queue', 'grants'];

/** Runs lines of Lua on an empty state. `ARGV` is that of the first batch of an owner. */
const run = (lines: string, parts: readonly string[] = ALL_PARTS): Promise<unknown> => {
  const keys = keyNames('headgate', freshKey());
  const args = ['hub.a', '0', '60000000', '-1', '-1 1 1e300', '', '0', '-1', String(START)];
  return client.eval(withParts(parts, lines), keys.length, ...keys, ...args);
};
const numbers = async (lines: string, parts?: readonly string[]): Promise<number[]> =>
  ((await run(lines, parts)) as string[]).map(Number);

/** Lua that sets the bucket. Instants are in seconds. */
const bucketOf = (capacity: number, period: number, burst: number): string =>
  `capacity, period, burst = ${capacity}, ${period}, ${burst}
   rate, tokens, since, created_at = capacity / period, burst, 0, 0`;
const text = (value: string): string => `format('%.17g', ${value})`;
/** Lua that spends tokens as a grant does. */
const TAKE = `local function take(instant, cost)
  if ready_at(instant, cost) > instant then return false end
  tokens, since, grants = level(instant) - cost, max(instant, since), grants + 1
  logged[#logged + 1] = struct.pack('>dd', since, cost)
  return true
end`;

describe('bucket.lua', () => {
  // The script rounds instants up to whole microseconds.
  const UNIT = 1e6;

  test.each(Object.entries(BUCKET_SCENARIOS))('%s', async (_name, { limits: [capacity, period, burst], steps }) => {
    const lines = steps.map(
      ({ t, take }) =>
        `found[#found + 1] = take(${t * UNIT}, ${take}) and '1' or '0'
         found[#found + 1] = ${text(`level(${t * UNIT})`)}`,
    );
    const found = await numbers(
      [bucketOf(capacity, period * UNIT, burst), TAKE, 'local found = {}', ...lines, 'return found'].join('\n'),
    );
    for (const [index, { ok, left }] of steps.entries()) {
      expect(found[index * 2], `step ${index}`).toBe(Number(ok));
      expect(found[index * 2 + 1]).toBeCloseTo(left, 9);
    }
  });

  test.each([...READY_TABLE])(
    '%d per %d s, burst %d, %d spent at 0: from %d on, a cost of %d fits at %d',
    async (capacity, period, burst, spent, from, cost, at) => {
      const [found] = await numbers(
        `${bucketOf(capacity, period * UNIT, burst)}
         ${TAKE}
         take(0, ${spent})
         return { ${text(`ready_at(${from * UNIT}, ${cost})`)} }`,
      );
      expect(found! / UNIT).toBeCloseTo(at, 5);
    },
  );
});

describe('settlement-log.lua', () => {
  test.each([...SETTLE_TABLE])('%s', async (_name, first, t, second, cost, expected) => {
    const [found] = await numbers(
      `${bucketOf(1, 1, 10)}
       ${TAKE}
       take(0, ${first})
       ${second > 0 ? `take(${t}, ${second})` : ''}
       settle(${cost}, ${first}, 0, 1)
       return { ${text(`level(${t})`)} }`,
    );
    expect(found).toBeCloseTo(expected, 9);
  });

  test('a refund of a folded grant is exact, and a log that Redis has lost gives no refund', async () => {
    const spend = `${bucketOf(1, 1, 1_000)}
      ${TAKE}
      for instant = 0, 299 do
        take(instant, 2)
        flush_log()
        trim_log()
      end`;
    expect(
      await numbers(`${spend}
        local before = level(299)
        settle(0, 2, 99, 100)
        return { tostring(folded > 1), ${text('level(299) - before')}, tostring(call('STRLEN', LOG) / 16) }`),
    ).toEqual([NaN, 2, expect.toSatisfy((entries: number) => entries <= 128)]);
    expect(
      await numbers(`${spend}
        local before = level(299)
        call('DEL', LOG)
        settle(0, 2, 99, 100)
        return { ${text('level(299) - before')} }`),
    ).toEqual([0]);
  });
});

describe('slots.lua', () => {
  test('takes the lowest free slot, and gives a slot of a number only if it is free', async () => {
    const lines = `local found = { take_slot(), take_slot(), take_slot() }
      free_slot(2)
      found[4], found[5], found[6] = take_slot(), take_slot(), occupy_slot(9) and 1 or 0
      found[7], found[8] = occupy_slot(9) and 1 or 0, take_slot()
      return found`;
    expect(await run(lines)).toEqual([1, 2, 3, 2, 4, 1, 0, 5]);
    expect(await run(`leases_apart = true\n${lines}`)).toEqual([1, 2, 3, 2, 4, 1, 0, 5]);
  });
});

describe('leases.lua', () => {
  const add = (count: number): string => `for index = 1, ${count} do
    prepare_lease()
    add_lease('hub.' .. index, take_slot() .. ' 5 1 0')
  end`;

  test.each([3, 64, 65, 300])('finds, counts and removes each of %d leases', async (count) => {
    const found = await run(
      `${add(count)}
       local before = find_lease('hub.${count}')
       remove_lease('hub.2', find_lease('hub.2'))
       flush_leases()
       items = {}
       return { before, tostring(find_lease('hub.2')), find_lease('hub.3'), active, tostring(leases_apart) }`,
    );
    expect(found).toEqual(
      [`${count} 5 1 0`, 'false', '3 5 1 0', count - 1, String(count > 64)].map((word) =>
        word === 'false' && count <= 64 ? expect.stringMatching(/false|nil/) : word,
      ),
    );
  });

  test('few leases move back into the text, with their slots', async () => {
    expect(
      await run(
        `${add(70)}
         flush_leases()
         active_before = active
         for index = 1, 67 do remove_lease('hub.' .. index, find_lease('hub.' .. index)) end
         flush_leases()
         local high = leases_apart
         add_lease('hub.x', take_slot() .. ' 5 1 0')
         for index = 68, 70 do remove_lease('hub.' .. index, find_lease('hub.' .. index)) end
         active_before = 9
         flush_leases()
         return { tostring(high), tostring(leases_apart), slots, active, call('EXISTS', LEASES, SLOTS) }`,
      ),
    ).toEqual(['true', 'false', '1', 1, 0]);
  });
});

describe('owners.lua and owner-changes.lua', () => {
  const add = (count: number): string => `for index = 1, ${count} do
    add_owner('hub.' .. index, { next = index, expiry = now + index, limit = 7, leases = 0, waiters = 0, cost = 0,
      birth = 0 })
  end`;

  test.each([2, 16, 17, 200])('keeps the records of %d owners', async (count) => {
    const lines = `${add(count)}
      local found = find_owner('hub.${count}')
      forget_owner('hub.1')
      return { found.next, found.limit, tostring(find_owner('hub.1')), owner_count, tostring(owners_apart) }`;
    expect(await run(lines)).toEqual([count, 7, 'false', count - 1, String(count > 16)]);
  });

  test('removes an owner with its leases and the count of its waiters', async () => {
    expect(
      await run(
        `${add(2)}
         local record = find_owner('hub.1')
         record.leases, record.waiters, record.cost, waiting, queued = 1, 3, 6, 4, 7
         add_lease('hub.1.x', take_slot() .. ' 5 1 0')
         add_lease('hub.2.x', take_slot() .. ' 5 1 0')
         remove_owner('hub.1')
         return { waiting, queued, active, leases, slots, dying }`,
      ),
    ).toEqual([1, 1, 1, '\nhub.2.x 2 5 1 0', '01', '']);
  });
});

describe('queue.lua', () => {
  test('tickets are instants, made unique, and a row grows with its owner alone', async () => {
    const lines = `local found = { next_ticket() }
      waiting = 1
      found[2] = next_ticket()
      found[3] = row_end
      row_owner = 'hub.other'
      next_ticket()
      found[4] = row_end
      return found`;
    expect(
      await numbers(
        lines.replace('return found', "for i = 1, 4 do found[i] = format('%.0f', found[i]) end return found"),
      ),
    ).toEqual([START, START + 1, START + 1, START + 1]);
  });

  test('a waiter joins, is found, and leaves', async () => {
    expect(
      await run(
        `local record = { waiters = 0, cost = 0, birth = 0 }
         join_queue('hub.a.x 2', record, 2, 5)
         join_queue('hub.a.y 3', record, 3, 6)
         leave_queue('hub.a.x 2', record, 2)
         flush_queue()
         local present = call('ZRANGE', QUEUE, 0, -1)
         return { present[1], #present, waiting, queued, record.waiters, record.cost, queue_length }`,
      ),
    ).toEqual(['hub.a.y 3', 1, 1, 3, 1, 3, 1]);
  });
});

describe('grants.lua', () => {
  test('drains the queue in order while it fits, and skips waiters of removed owners', async () => {
    expect(
      await run(
        `local record = { next = 1, expiry = now, limit = 2, leases = 0, waiters = 0, cost = 0, birth = 0 }
         records['hub.a'] = record
         for place = 1, 4 do
           local name = place == 2 and 'hub.gone' or 'hub.a'
           join_queue(name .. '.s' .. place .. ' 1', record, 1, now + place)
         end
         waiting = 3
         drain()
         return { reply[2], reply[3], head_name, waiting, queue_length, active }`,
      ),
    ).toEqual([`G s1 1 ${START} 1 0`, `G s3 2 ${START} 1 0`, 'hub.a', 1, 1, 2]);
  });
});
