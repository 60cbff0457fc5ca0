/** The validation and the defaults of the options, in every adapter. */
import { type Gate, KeyedThrottle, ServerBusyError, Throttle } from 'headgate';
import { describe, expect, test } from 'vitest';
import { sites } from '../support/framework-servers.js';
import { get } from '../support/http-client.js';

/** A gate with the given `acquire`. */
const gateWith = (acquire: () => Promise<never>): Gate => ({ acquire }) as unknown as Gate;
/** A keyed gate with one slot for each key. */
const onePerKey = (): KeyedThrottle => new KeyedThrottle(Infinity, 1);

describe.each(sites)('%s', (_name, serve) => {
  describe('the adapter', () => {
    const gate = new Throttle(1);
    const keyed = onePerKey();
    test.each<[string, unknown, string]>([
      ['missing options', undefined, 'TypeError: options must be an object, received undefined'],
      ['no gate', {}, 'TypeError: options must have either gate or keyed'],
      ['two gates', { gate, keyed, key: 'ip' }, 'TypeError: options must have either gate or keyed'],
      ['a gate that is a number', { gate: 7 }, 'TypeError: gate must be a Gate, not a KeyedGate, received 7'],
      ['a gate that is null', { gate: null }, 'TypeError: gate must be a Gate, not a KeyedGate, received null'],
      ['a keyed gate as a gate', { gate: keyed }, 'TypeError: gate must be a Gate, not a KeyedGate, received object'],
      ['a gate as a keyed gate', { keyed: gate, key: 'ip' }, 'TypeError: keyed must be a KeyedGate, received object'],
      [
        'a keyed gate without acquire',
        { keyed: { keyed: true }, key: 'ip' },
        'TypeError: keyed must be a KeyedGate, received object',
      ],
      ['keyed without key', { keyed }, 'TypeError: key must be set if and only if keyed is set, received undefined'],
      ['a key with gate', { gate, key: 'ip' }, 'TypeError: key must be set if and only if keyed is set, received "ip"'],
      [
        'a key of an unknown form',
        { keyed, key: 'ipp' },
        `TypeError: key must be 'ip', 'user', 'header:NAME', 'query:NAME', a template or a function, received "ipp"`,
      ],
      ['a key that is a number', { keyed, key: 7 }, "TypeError: key must be 'ip', 'user',"],
      ['a header without a name', { keyed, key: 'header:' }, "TypeError: key must be 'ip', 'user',"],
      [
        'a header with an invalid name',
        { keyed, key: 'header:a b' },
        'TypeError: key must be a template with valid header names, received "a b"',
      ],
      ['a query without a name', { keyed, key: 'query:' }, "TypeError: key must be 'ip', 'user',"],
      ['an unclosed brace', { keyed, key: 'user:{user.id' }, "TypeError: key must be 'ip', 'user',"],
      ['an unopened brace', { keyed, key: '{user.id}}' }, "TypeError: key must be 'ip', 'user',"],
      ['an empty placeholder', { keyed, key: 'a{}' }, "TypeError: key must be 'ip', 'user',"],
      [
        'adjacent placeholders',
        { keyed, key: '{a}{b}' },
        'TypeError: key must be a template with punctuation between its placeholders, received "{a}{b}"',
      ],
      [
        'a word between placeholders',
        { keyed, key: '{a}and{b}' },
        'TypeError: key must be a template with punctuation between its placeholders',
      ],
      [
        'a percent sign between placeholders',
        { keyed, key: '{a}%{b}' },
        'TypeError: key must be a template with punctuation between its placeholders',
      ],
      ['a negative cost', { gate, cost: -1 }, 'RangeError: cost must be a finite number >= 0, received -1'],
      ['a cost that is a string', { gate, cost: '1' }, 'TypeError: cost must be a finite number >= 0, received "1"'],
      ['a negative wait', { gate, wait: -1 }, 'RangeError: wait must be a number >= 0, received -1'],
      [
        'a gate whose timeout is a string',
        { gate: { acquire() {}, timeout: '5' } },
        'TypeError: wait must be a number >= 0, received "5"',
      ],
      ['a block that is a number', { gate, block: 1 }, 'TypeError: block must be a boolean, received 1'],
      ['headers that are a string', { gate, headers: 'x' }, 'TypeError: headers must be a boolean, received "x"'],
      ['failOpen that is null', { gate, failOpen: null }, 'TypeError: failOpen must be a boolean, received null'],
      [
        'a status of success',
        { gate, status: 200 },
        'RangeError: status must be an integer from 400 to 599, received 200',
      ],
      [
        'a status above 599',
        { gate, status: 600 },
        'RangeError: status must be an integer from 400 to 599, received 600',
      ],
      [
        'a fractional status',
        { gate, status: 429.5 },
        'RangeError: status must be an integer from 400 to 599, received 429.5',
      ],
      [
        'an unknown onLimited',
        { gate, onLimited: 'no' },
        'TypeError: onLimited must be a function or \'throw\', received "no"',
      ],
      ['an unknown hold', { gate, hold: 'body' }, "TypeError: hold must be 'response' or 'handler', received \"body\""],
      ['skip that is a boolean', { gate, skip: true }, 'TypeError: skip must be a function, received true'],
      [
        'a prefix of 0 bits',
        { gate, ipv6Prefix: 0 },
        'RangeError: ipv6Prefix must be an integer from 1 to 128, received 0',
      ],
      [
        'a prefix of 129 bits',
        { gate, ipv6Prefix: 129 },
        'RangeError: ipv6Prefix must be an integer from 1 to 128, received 129',
      ],
      ['a ttl of 0', { gate, ttl: 0 }, 'RangeError: ttl must be a number > 0, up to 2147483, received 0'],
      [
        'a ttl too long for a timer',
        { gate, ttl: 2_147_484 },
        'RangeError: ttl must be a number > 0, up to 2147483, received 2147484',
      ],
    ])('throws at creation for %s', async (__, options, message) => {
      await expect(
        serve(options as never).catch((error: unknown) => Promise.reject(new Error(String(error)))),
      ).rejects.toThrow(message);
    });

    test('uses the default for an option of undefined', async () => {
      const options = {
        gate: new Throttle(10),
        key: undefined,
        keyed: undefined,
        cost: undefined,
        wait: undefined,
        block: undefined,
        status: undefined,
        onLimited: undefined,
        headers: undefined,
        skip: undefined,
        failOpen: undefined,
        ipv6Prefix: undefined,
        hold: undefined,
        ttl: undefined,
      };
      expect((await get(await serve(options))).status).toBe(200);
    });

    test('uses the timeout of the gate as the default of wait', async () => {
      const timeouts: unknown[] = [];
      const acquire = (_: number, options: { timeout: number; signal?: AbortSignal }): Promise<never> => {
        timeouts.push([options.timeout, options.signal instanceof AbortSignal]);
        return Promise.reject(new ServerBusyError());
      };
      const busy = Object.assign(() => {}, { acquire, timeout: 3 }) as unknown as Gate;
      for (const options of [
        { gate: busy },
        { gate: busy, wait: 0 },
        { gate: busy, wait: 9 },
        { gate: gateWith(acquire as never) },
      ])
        await get(await serve(options));
      expect(timeouts).toEqual([
        [3, true],
        [0, false],
        [9, true],
        [0, false],
      ]);
    });
  });
});
