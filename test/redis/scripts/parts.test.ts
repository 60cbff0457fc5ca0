/** The functions of the parts, each called alone on a real server. */
import { describe, expect, test } from 'vitest';
import { batchArgument } from '../batch-words.js';
import { client } from '../shared-client.js';
import { keyNames } from '../../../src/redis/key-names.js';
import { BUCKET_SCENARIOS, READY_TABLE, SETTLE_TABLE } from '../../core/token-bucket-tables.js';
import { freshKey } from '../support.js';
import { START, withParts } from './support.js';

const PARTS = [
  'arguments',
  'fast-path',
  'further-arguments',
  'state',
  'events',
  'rates',
  'window',
  'bucket',
  'settlement-log',
  'slots',
  'leases',
  'owners',
  'owner-changes',
];
const ALL_PARTS = [...PARTS, 'queue', 'grants'];

/** Runs lines of Lua on an empty state. `ARGV` is that of the first batch of an owner. */
const run = (
  lines: string,
  parts: readonly string[] = ALL_PARTS,
  terms = '- 5 1000000 5 w;=tokens 8 1 8',
): Promise<unknown> => {
  const keys = keyNames('headgate', freshKey());
  const header = { owner: 'hub.a', number: '0', ttl: '60000000', limit: '-1', confirmed: '0', maxQueue: '-1' };
  const argument = batchArgument({ ...header, flags: '', clock: String(START), rate: terms }, []);
  return client.eval(withParts(parts, lines), keys.length, ...keys, argument);
};
const numbers = async (lines: string, parts?: readonly string[]): Promise<number[]> =>
  ((await run(lines, parts)) as string[]).map(Number);

/** Lua that sets the bucket. Instants are in seconds. */
const bucketOf = (capacity: number, period: number, burst: number): string =>
  `local bucket = read_terms('${capacity} ${period} ${burst}')[1]
   rates, buckets, stride, bucket.since, created_at = { bucket }, 1, 16, 0, 0`;
const text = (value: string): string => `format('%.17g', ${value})`;
/** Lua that spends tokens as a grant does. */
const TAKE = `local function take(instant, cost)
  if ready_at(bucket, instant, cost) > instant then return false end
  bucket.tokens, bucket.since, grants = level(bucket, instant) - cost, max(instant, bucket.since), grants + 1
  logged[#logged + 1] = struct.pack('>dd', bucket.since, cost)
  return true
end`;

describe('bucket.lua', () => {
  // The script rounds instants up to whole microseconds.
  const UNIT = 1e6;

  test.each(Object.entries(BUCKET_SCENARIOS))('%s', async (_name, { limits: [capacity, period, burst], steps }) => {
    const lines = steps.map(
      ({ t, take }) =>
        `found[#found + 1] = take(${t * UNIT}, ${take}) and '1' or '0'
         found[#found + 1] = ${text(`level(bucket, ${t * UNIT})`)}`,
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
         return { ${text(`ready_at(bucket, ${from * UNIT}, ${cost})`)} }`,
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
       settle('${cost}', '${first}', 0, 1)
       return { ${text(`level(bucket, ${t})`)} }`,
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
        local before = level(bucket, 299)
        settle('0', '2', 99, 100)
        return { tostring(folded > 1), ${text('level(bucket, 299) - before')}, tostring(call('STRLEN', LOG) / 16) }`),
    ).toEqual([NaN, 2, expect.toSatisfy((entries: number) => entries <= 128)]);
    expect(
      await numbers(`${spend}
        local before = level(bucket, 299)
        call('DEL', LOG)
        settle('0', '2', 99, 100)
        return { ${text('level(bucket, 299) - before')} }`),
    ).toEqual([0]);
  });
});

describe('window.lua', () => {
  const WINDOW = `local window = read_terms('- 1000000 64000 1000000 w')[1]`;

  test('has at most 64 counters, whatever the distance of the grants', async () => {
    for (const distance of [1, 500, 1_015, 1_016, 1_017, 2_031])
      expect(
        await run(
          `${WINDOW}
           local most = 0
           for instant = 0, 300000, ${distance} do
             sliding.take(window, instant, 1)
             most = max(most, #window.lasts)
           end
           return most`,
        ),
        String(distance),
      ).toBeLessThanOrEqual(64);
  });

  test('a queue waits one more period for each full window ahead of its last cost', async () => {
    const lines = `local window = read_terms('- 4 64000 4 w')[1]
      sliding.take(window, 0, 3)
      return { sliding.ready_at(window, 10, 1), sliding.ready_at(window, 10, 2), sliding.ready_at(window, 10, 5),
        sliding.ready_at(window, 10, 6), sliding.ready_at(window, 70000, 4) }`;
    expect(await run(lines)).toEqual([10, 64_000, 64_010, 128_000, 70_000]);
  });

  test('a grant between two counters settles in its own', async () => {
    const lines = `now = 5000
      local window = read_terms('- 100 64000 100 w')[1]
      sliding.take(window, 0, 3)
      sliding.take(window, 1000, 4)
      sliding.take(window, 1100, 5)
      sliding.settle(window, -2, 500)
      sliding.settle(window, 2, 1000)
      sliding.settle(window, 6, 3000)
      return { #window.lasts, window.sums[1], window.sums[2], window.sums[3], sliding.level(window, 65000) }`;
    expect(await run(lines)).toEqual([3, 7, 5, 6, 89]);
  });
});

describe('rates.lua', () => {
  test('reads the rates and their costs', async () => {
    const lines = `rates = read_terms('- 5 10 6;=a_b.c-%0020d 7 20 8 w;- 1 1 1')
      local found = {}
      for _, text in ipairs({ '3', '2;', '2;a_b.c-%0020d=4', '3/2;a_b.c-%0020d=4;other=9', '0/1' }) do
        local costs = parse(text)
        found[#found + 1] = table.concat({ costs.slots, costs.main, costs[1], costs[2], costs[3] }, ' ')
      end
      local second = rates[2]
      found[#found + 1] = table.concat({ second.capacity, second.period, second.burst, second.tag, #second.lasts }, ' ')
      return found`;
    expect(await run(lines)).toEqual([
      '1 3 3 3 3',
      '1 2 2 0 2',
      '1 2 2 4 2',
      '3 2 2 4 2',
      '0 1 1 1 1',
      '7 20 8 ;a_b.c-%0020d= 0',
    ]);
  });

  test.each([
    ['5 10 6', 1],
    ['-1 1 6', 0],
    ['-1e-5 1 6', 0],
    ['1e-7 1e300 6', 1],
  ])('the rates of %j are %d', async (terms, count) => {
    expect(await run(`return #read_terms('${terms}')`)).toBe(count);
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
    prepare_lease(1)
    add_lease('hub.' .. index, take_slot() .. ' 5 1 0', 1)
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
         count_before = active
         for index = 1, 67 do remove_lease('hub.' .. index, find_lease('hub.' .. index)) end
         flush_leases()
         local high = leases_apart
         add_lease('hub.x', take_slot() .. ' 5 1 0', 1)
         for index = 68, 70 do remove_lease('hub.' .. index, find_lease('hub.' .. index)) end
         count_before = 9
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
         add_lease('hub.1.x', take_slot() .. ' 5 1 0', 1)
         add_lease('hub.2.x', take_slot() .. ' 5 1 0', 1)
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

  const FORMS = [
    ['the text', ''],
    ['the sorted set', 'move_queue_apart()'],
  ] as const;
  /** Lua that lets four waiters join, and writes them. */
  const joinFour = (form: string): string =>
    `local record = { waiters = 0, cost = 0, birth = 0 }
     ${form}
     for number, name in ipairs({ 'w', 'x', 'y', 'z' }) do
       join_queue('hub.a.' .. name .. ' ' .. number, record, parse(format('%d', number)), number + 4)
     end
     flush_queue()`;
  const SUM = "return { table.concat(read_front(9), ','), waiting, queued, record.waiters, record.cost, queue_length }";

  test.each(FORMS)('a waiter joins %s, is found, and leaves before it is written', async (_, form) => {
    const lines = `local record = { waiters = 0, cost = 0, birth = 0 }
      ${form}
      join_queue('hub.a.x 2', record, parse('2'), 5)
      join_queue('hub.a.y 3', record, parse('3'), 6)
      leave_queue('hub.a.x 2', record, parse('2'))
      flush_queue()`;
    expect(await run(`${lines} ${SUM}`)).toEqual(['hub.a.y 3,6', 1, 3, 1, 3, 1]);
  });

  test.each(FORMS)('waiters leave %s at its head, in its middle and at its tail', async (_, form) => {
    const leave = (name: string, cost: number): string =>
      `leave_queue('hub.a.${name} ${cost}', record, parse('${cost}')) flush_queue()`;
    const all = 'hub.a.w 1,5,hub.a.x 2,6,hub.a.y 3,7,hub.a.z 4,8';
    expect(await run(`${joinFour(form)} ${SUM}`)).toEqual([all, 4, 10, 4, 10, 4]);
    expect(await run(`${joinFour(form)} ${leave('w', 1)} ${SUM}`)).toEqual([all.slice(12), 3, 9, 3, 9, 3]);
    const others = 'hub.a.x 2,6,hub.a.z 4,8';
    expect(await run(`${joinFour(form)} ${leave('y', 3)} ${leave('w', 1)} ${SUM}`)).toEqual([others, 2, 6, 2, 6, 2]);
    expect(await run(`${joinFour(form)} ${leave('z', 4)} ${SUM}`)).toEqual([all.slice(0, 35), 3, 6, 3, 6, 3]);
  });

  test.each(FORMS)('the first waiters are read from %s, and dropped', async (_, form) => {
    const rest = "local rest = table.concat(read_front(9), ',')";
    expect(
      await run(
        `${joinFour(form)} local front = table.concat(read_front(2), ',') drop_front(3) ${rest} return { front, rest }`,
      ),
    ).toEqual(['hub.a.w 1,5,hub.a.x 2,6', 'hub.a.z 4,8']);
  });

  test('a waiter with an earlier ticket than the last one joins in its place', async () => {
    const lines = `${joinFour('')} ticket = 8
      join_queue('hub.a.v 1', record, parse('1'), 6)
      flush_queue()
      return { queue_apart and 1 or 0, table.concat(read_front(3), ',') }`;
    expect(await run(lines)).toEqual([1, 'hub.a.w 1,5,hub.a.v 1,6,hub.a.x 2,6']);
  });

  test('more than 64 waiters are in the sorted set, and the queue that has become empty is a text again', async () => {
    const lines = `local record, counts = { waiters = 0, cost = 0, birth = 0 }, {}
      for number = 1, 65 do
        join_queue('hub.a.' .. number .. ' 1', record, parse('1'), next_ticket())
        flush_queue()
        if number >= 64 then counts[#counts + 1] = call('ZCARD', QUEUE) end
      end
      for number = 1, 65 do leave_queue('hub.a.' .. number .. ' 1', record, parse('1')) end
      flush_queue()
      return { counts[1], counts[2], queue_apart and 1 or 0, call('EXISTS', QUEUE), queue_length }`;
    expect(await run(lines)).toEqual([0, 65, 0, 0, 0]);
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
           join_queue(name .. '.s' .. place .. ' 1', record, parse('1'), now + place)
         end
         waiting = 3
         drain()
         return { reply[2], reply[3], head_name, waiting, queue_length, active }`,
      ),
    ).toEqual([`G s1 1 ${START} 1 0`, `G s3 2 ${START} 1 0`, 'hub.a', 1, 1, 2]);
  });
});
