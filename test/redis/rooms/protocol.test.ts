/**
 * The codec of the wire protocol. The decoder of commands and the encoder of replies in this file are written from the
 * description of the protocol, and undo the codec.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Terms } from '../../../src/core/cost.js';
import { type Charge, encodeCharge } from '../../../src/redis/charge.js';
import {
  type Command,
  decodeEvent,
  decodeReply,
  encodeBatch,
  encodeRate,
  type Event,
  FOREVER,
} from '../../../src/redis/protocol.js';
import { wordsOf } from '../batch-words.js';

const settings = {
  owner: 'abcdefghij.0',
  sequence: 7,
  ttl: 60,
  concurrency: Infinity,
  rate: encodeRate(Infinity, 1, Infinity),
  flags: 'cl',
  confirmed: 0,
  maxQueue: Infinity,
  serverTime: '',
};

const secondsOf = (micros: string | undefined): number => (Number(micros) >= FOREVER ? Infinity : Number(micros) / 1e6);

/** A cost is a number if it can be one. */
const readCharge = (text = ''): Charge => (Number.isNaN(Number(text)) ? text : Number(text));

/** Reads the words of one command from the front of `words`. */
function decodeCommand(words: string[]): Command {
  const [kind, ...fields] = words;
  const read = (count: number, command: (...fields: string[]) => Command): Command => {
    words.splice(0, count + 1);
    return command(...fields.slice(0, count));
  };
  switch (kind) {
    case 'A':
    case 'B':
      return read(3, (serial = '', cost, timeout) => {
        return {
          kind: 'acquire',
          serial,
          cost: readCharge(cost),
          timeout: timeout === '-1' ? Infinity : secondsOf(timeout),
        };
      });
    case 'R':
      return read(1, (serial = '') => ({ kind: 'release', serial }));
    case 'C':
      return read(2, (serial = '', cost) => ({ kind: 'cancel', serial, cost: readCharge(cost) }));
    case 'S':
      return read(4, (cost, requested, granted, number) => {
        return { kind: 'settle', cost: readCharge(cost), item: `1 ${granted} ${requested} ${number}` };
      });
    case 'T':
      return read(2, (levels = '', flag) => ({ kind: 'correct', levels, onlyLower: flag === '1' }));
    case 'P':
      return read(1, (span) => ({ kind: 'pause', seconds: secondsOf(span) }));
    case 'U':
      return read(0, () => ({ kind: 'resume' }));
    case 'E':
      return read(1, (owner = '') => ({ kind: 'replace', owner }));
    case 'K':
      return read(2, (serial = '', item = '') => ({ kind: 'hold', serial, item }));
    case 'W':
      return read(3, (serial = '', cost, ticket) => {
        return { kind: 'wait', serial, cost: readCharge(cost), ticket: Number(ticket) };
      });
    default:
      throw new Error(`unknown command ${kind}`);
  }
}

/** Prints an event as the script does. */
function encodeEvent(event: Event): string {
  const micros = (seconds: number): string => (seconds === Infinity ? FOREVER : Math.round(seconds * 1e6)).toString();
  switch (event.kind) {
    case 'granted':
      return `${event.isRepeated ? 'g' : 'G'} ${event.serial} ${event.item}`;
    case 'queued':
      return `Q ${event.serial} ${event.ticket}${event.returnedAt > 0 ? ` ${event.returnedAt}` : ''}`;
    case 'late':
    case 'queue full':
      return [event.kind === 'late' ? 'L' : 'F', event.serial, micros(event.wait), event.active, event.waiting].join(
        ' ',
      );
    case 'oversize':
      return `O ${event.serial} ${event.burst}${event.rate === '' ? '' : ` ${event.rate}`}`;
    case 'refused earlier':
      return `N ${event.serial}`;
    case 'lease lost':
      return `X ${event.serial}`;
    case 'wake':
      return `H ${micros(event.span)} ${event.at}`;
    case 'withdrawn':
      return `V ${event.version}`;
    default:
      return 'Z';
  }
}

const serial = fc.integer({ min: 0, max: 1e9 }).map((number) => number.toString(36));
const tokens = fc.double({ min: 0, noNaN: true, noDefaultInfinity: true });
/** A number, or a record of three names, with slots. */
const cost: fc.Arbitrary<Charge> = fc
  .record({ tokens, costs: fc.array(tokens, { minLength: 3, maxLength: 3 }), slots: fc.constantFrom(0, 1, 3) })
  .chain((all) =>
    fc.constantFrom(undefined, [all.tokens, ...all.costs]).map((costs) => {
      const terms = costs === undefined && all.slots === 1 ? undefined : new Terms(costs ?? [all.tokens], all.slots);
      return encodeCharge(all.tokens, terms, ['a', 'é b', 'c=;/']);
    }),
  );
const instant = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
/** Whole microseconds, or Infinity. */
const duration = fc.oneof(
  fc.integer({ min: 0, max: 1e14 }).map((micros) => micros / 1e6),
  fc.constant(Infinity),
);
const count = fc.nat();
const item = fc
  .tuple(fc.integer({ min: 1, max: 1e6 }), instant, cost, instant)
  .map((fields) => ({ slot: fields[0], grantedAt: fields[1], item: fields.join(' ') }));

const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({ kind: fc.constant('acquire' as const), serial, cost, timeout: duration }),
  fc.record({ kind: fc.constant('release' as const), serial }),
  fc.record({ kind: fc.constant('cancel' as const), serial, cost }),
  fc.record({ kind: fc.constant('settle' as const), cost, item: item.map((grant) => grant.item.replace(/^\d+/, '1')) }),
  fc.record({
    kind: fc.constant('correct' as const),
    levels: fc.string().filter((levels) => !levels.includes('\n')),
    onlyLower: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('pause' as const), seconds: duration }),
  fc.record({ kind: fc.constant('resume' as const) }),
  fc.record({ kind: fc.constant('replace' as const), owner: serial }),
  fc.record({ kind: fc.constant('hold' as const), serial, item: item.map((grant) => grant.item) }),
  fc.record({ kind: fc.constant('wait' as const), serial, cost, ticket: instant }),
);

const event: fc.Arbitrary<Event> = fc.oneof(
  fc
    .record({ kind: fc.constant('granted' as const), serial, grant: item, isRepeated: fc.boolean() })
    .map(({ kind, serial: name, grant: { slot, grantedAt, item: record }, isRepeated }) => {
      return { kind, serial: name, slot, grantedAt, item: record, isRepeated };
    }),
  fc.record({
    kind: fc.constant('queued' as const),
    serial,
    ticket: instant,
    returnedAt: fc.oneof(fc.constant(0), instant),
  }),
  fc.record({
    kind: fc.constantFrom('late' as const, 'queue full' as const),
    serial,
    wait: duration,
    active: count,
    waiting: count,
  }),
  fc.record({
    kind: fc.constant('oversize' as const),
    serial,
    burst: tokens,
    rate: fc.constantFrom('', 'tokens', 'a%0020b'),
  }),
  fc.record({ kind: fc.constantFrom('refused earlier' as const, 'lease lost' as const), serial }),
  fc.record({ kind: fc.constant('wake' as const), span: duration, at: instant }),
  fc.record({ kind: fc.constant('withdrawn' as const), version: instant }),
  fc.record({ kind: fc.constant('reset' as const) }),
);

describe('commands', () => {
  test('a decoder gets back every command', () => {
    fc.assert(
      fc.property(fc.array(command), (commands) => {
        const words = wordsOf([encodeBatch(settings, commands)]);
        const decoded: Command[] = [];
        while (words.length > 0) decoded.push(decodeCommand(words));
        expect(decoded).toEqual(commands);
      }),
    );
  });

  test('durations are whole microseconds, at most the largest safe integer', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, noNaN: true }), (seconds) => {
        const span = Number(wordsOf([encodeBatch(settings, [{ kind: 'pause', seconds }])]).at(-1));
        expect(Number.isSafeInteger(span)).toBe(true);
        if (seconds < 1e9) expect(Math.abs(span - seconds * 1e6)).toBeLessThanOrEqual(0.5);
      }),
    );
  });

  test('the settings have their places, and -1 stands for any number', () => {
    expect(encodeBatch({ ...settings, ttl: 1.5, maxQueue: 0, confirmed: 12, serverTime: '99' }, [])).toBe(
      'abcdefghij.0 7 1500000 -1 cl 99 12 0 -1 1 1.7976931348623157e+308\n',
    );
  });

  test('a dash stands for no flags, and for the clock of the server', () => {
    expect(encodeBatch({ ...settings, flags: '', serverTime: '' }, [])).toMatch(/^\S+ 7 \d+ -1 - - /);
  });

  test('a rate has three finite numbers', () => {
    expect(encodeRate(10, 60, 20)).toBe('10 60000000 20');
    fc.assert(
      fc.property(
        fc.double({ min: Number.MIN_VALUE, noNaN: true }),
        fc.double({ min: Number.MIN_VALUE, max: Number.MAX_VALUE, noNaN: true }),
        fc.double({ min: Number.MIN_VALUE, noNaN: true }),
        (capacity, period, burst) => {
          const numbers = encodeRate(capacity, period, burst).split(' ').map(Number);
          expect(numbers).toHaveLength(3);
          expect(numbers.every(Number.isFinite)).toBe(true);
        },
      ),
    );
  });
});

describe('events', () => {
  test('every event that is printed as by the script is decoded', () => {
    fc.assert(
      fc.property(event, (given) => {
        expect(decodeEvent(encodeEvent(given))).toEqual(given);
      }),
    );
  });

  test.each([
    '',
    'G',
    'G a 1 2 3',
    'G a 1 2 3 4 5',
    'G a 1 x 3 4',
    'Q a',
    'Q a NaN',
    'Q a -1',
    'L a 1 2',
    'O a Infinity',
    'H 5',
    'H x 5',
    'V',
    'V x',
    'V Infinity',
    'V ',
    'Z 1',
    'constructor',
    'hello world',
  ])('the line "%s" is no event', (line) => {
    expect(decodeEvent(line)).toBeUndefined();
  });

  test('no text makes the decoder throw, or yields a number that is not finite', () => {
    const word = fc.oneof(fc.string(), fc.constantFrom('G', 'g', 'Q', 'L', 'F', 'O', 'H', 'V', '1e999', '-0', '0x1'));
    fc.assert(
      fc.property(fc.array(word, { maxLength: 7 }), (words) => {
        const { kind, ...fields } = decodeEvent(words.join(' ')) ?? { kind: 'none' };
        const numbers = Object.entries(fields).filter(
          ([name, value]) => typeof value === 'number' && !/wait|span/.test(name),
        );
        expect(kind).toBeDefined();
        expect(numbers.every(([, value]) => Number.isFinite(value))).toBe(true);
      }),
    );
  });
});

describe('replies', () => {
  const acquire: Command = { kind: 'acquire', serial: 'a', cost: 1, timeout: Infinity };

  test('a decoder gets back every reply', () => {
    const outcome = fc.constantFrom('A', 'L', 'R', 'U');
    const heads = fc.oneof(
      fc.constant([0, 0] as const),
      fc.tuple(fc.integer({ min: 0, max: 1e14 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })),
    );
    fc.assert(
      fc.property(outcome, instant, fc.nat(), heads, fc.array(event), (letter, version, upTo, wake, events) => {
        const head = [letter, version, upTo, ...wake];
        while (head.at(-1) === 0) head.pop();
        const text = [head.join(' '), ...events.map(encodeEvent)].join('\n');
        expect(decodeReply([], text, 1)).toEqual({
          outcome: { A: 'applied', L: 'applied', R: 'refused', U: 'unknown owner' }[letter],
          linger: letter === 'L',
          version,
          upTo,
          wakeSpan: wake[1] > 0 ? wake[0] / 1e6 : Infinity,
          wakeAt: wake[1],
          events,
        });
      }),
    );
  });

  test('a wake-up time without an instant is none, however the script prints the zeros', () => {
    expect(decodeReply([], 'A 5 0 0 0', 0).wakeSpan).toBe(Infinity);
    expect(decodeReply([], 'A 5 0 0 7', 0)).toMatchObject({ wakeSpan: 0, wakeAt: 7 });
  });

  test.each([
    undefined,
    null,
    5,
    [],
    ['A 5'],
    '',
    'OK',
    'constructor',
    'A x',
    'A 5 x',
    'A 5 0 -1 3',
    'A 5 0 Infinity 3',
    'A 1 2 3 4 5',
    'A 5\n',
    'A 5\nhello',
    'A 5\nG b 1 2 3',
  ])('the reply %j is refused', (reply) => {
    expect(() => decodeReply([], reply, 1)).toThrow('a reply that is not from the script');
  });

  test('a reply that lacks the event of a request is refused', () => {
    expect(() => decodeReply([acquire], 'A 5\nQ b 1', 1)).toThrow(TypeError);
    expect(decodeReply([acquire], 'A 5\nQ b 1\nQ a 2', 1).events).toHaveLength(2);
    expect(decodeReply([acquire], 'R', 1).outcome).toBe('refused');
  });

  test.each(['R', 'U'])(
    'the reply %s to the first batch of an owner is refused: to begin anew would never end',
    (reply) => {
      expect(() => decodeReply([], reply, 0)).toThrow(TypeError);
    },
  );
});
