/**
 * The wire protocol between a process and the script: this file alone knows the words of a command and the positions in
 * a reply or a message. `scripts/step.lua` describes what the script does with them.
 */

import { type Charge, isCharge } from './charge.js';

/** The microseconds that stand for Infinity: the largest integer that a double holds exactly. */
export const FOREVER: number = Number.MAX_SAFE_INTEGER;
/** A span of at least so many microseconds, some thirty years, counts as infinite. */
const ENDLESS = 1e15;

/** One command of a batch. Serials are names of calls, unique within a throttle object. Durations are in seconds. */
export type Command =
  /** Requests a permit. A `timeout` of 0 never waits. */
  | { readonly kind: 'acquire'; readonly serial: string; readonly cost: Charge; readonly timeout: number }
  /** Releases the lease that was granted to the call `serial`. */
  | { readonly kind: 'release'; readonly serial: string }
  /** Removes the waiter `serial`, or takes back its grant with its tokens. */
  | { readonly kind: 'cancel'; readonly serial: string; readonly cost: Charge }
  /** States the true cost of a grant. A rate whose cost is that of the grant is not settled. */
  | { readonly kind: 'settle'; readonly cost: Charge; readonly item: string }
  /** Sets the levels of rates, as `encodeLevels` returns them. With `onlyLower`, no level becomes higher. */
  | { readonly kind: 'correct'; readonly levels: string; readonly onlyLower: boolean }
  /** Pauses all processes, for at least `seconds` from the arrival of the command. */
  | { readonly kind: 'pause'; readonly seconds: number }
  /** Ends every pause. */
  | { readonly kind: 'resume' }
  /** First in an epoch: removes an earlier owner, with all that it holds. */
  | { readonly kind: 'replace'; readonly owner: string }
  /** States a lease that the process holds. `item` is the record of the grant. */
  | { readonly kind: 'hold'; readonly serial: string; readonly item: string }
  /** States a waiter with its ticket. */
  | { readonly kind: 'wait'; readonly serial: string; readonly cost: Charge; readonly ticket: number };

/** The settings that every batch carries. */
export interface BatchSettings {
  readonly owner: string;
  /** The number of the batch within the epoch of its owner. */
  readonly sequence: number;
  /** Seconds. */
  readonly ttl: number;
  /** `Infinity` for any number. */
  readonly concurrency: number;
  /** The rates, as `FleetRates.encode` returns them. */
  readonly rate: string;
  /** Letters, see {@link Flag}. */
  readonly flags: string;
  /** An instant of the server, in microseconds, that a timer of the process has confirmed. */
  readonly confirmed: number;
  readonly maxQueue: number;
  /** The clock of a test, in microseconds; empty for the clock of the server. */
  readonly serverTime: string;
}

/** The flags of a batch. */
export const Flag = {
  /** The rates are new, and replace the rates in Redis. */
  configure: 'c',
  /** The owner ends with this batch. */
  end: 'e',
  /** Released slots may linger in this process. */
  linger: 'l',
  /** The script must check the permission to publish. */
  checkPublish: 'p',
} as const;

/** Converts seconds to microseconds. */
export const micros = (seconds: number): string =>
  (seconds === Infinity ? FOREVER : Math.min(FOREVER, Math.round(seconds * 1e6))).toString();

const encodeCount = (count: number): string => (count === Infinity ? '-1' : count.toString());

/** One rate as words. A capacity of -1 stands for no limit. */
export function encodeRate(capacity: number, period: number, burst: number): string {
  const [span, size] = [Math.min(period * 1e6, Number.MAX_VALUE), Math.min(burst, Number.MAX_VALUE)];
  return capacity < Infinity ? `${capacity} ${span} ${size}` : `-1 1 ${size}`;
}

/**
 * The argument of the script for one batch: the header, a line feed and the commands. A client encodes each argument
 * separately, and Redis parses each argument separately. So a single request takes a tenth longer with ten arguments,
 * and a batch of 64 releases and requests takes twice the time with an argument for each word.
 */
export function encodeBatch(settings: BatchSettings, commands: readonly Command[]): string {
  const { owner, sequence, ttl, concurrency, flags, serverTime, confirmed, maxQueue, rate } = settings;
  let text =
    `${owner} ${sequence} ${micros(ttl)} ${encodeCount(concurrency)} ${flags || '-'} ${serverTime || '-'} ` +
    `${confirmed} ${encodeCount(maxQueue)} ${rate}\n`;
  for (const command of commands) text += encodeCommand(command);
  return text;
}

/** The fields of the record of a grant, as texts. `charge.ts` reads the slots, its first field. */
export function decodeItem(item: string): { grantedAt: string; cost: string; number: string } {
  const [, grantedAt = '', cost = '', number = ''] = item.split(' ');
  return { grantedAt, cost, number };
}

/** The words of a command, each with a line feed at its end. */
function encodeCommand(command: Command): string {
  switch (command.kind) {
    case 'acquire': {
      const { serial, cost, timeout } = command;
      return `${typeof cost === 'number' ? 'A' : 'B'}\n${serial}\n${cost}\n${timeout === Infinity ? '-1' : micros(timeout)}\n`;
    }
    case 'release':
      return `R\n${command.serial}\n`;
    case 'cancel':
      return `C\n${command.serial}\n${command.cost}\n`;
    case 'settle': {
      const { grantedAt, cost, number } = decodeItem(command.item);
      return `S\n${command.cost}\n${cost}\n${grantedAt}\n${number}\n`;
    }
    case 'correct':
      return `T\n${command.levels}\n${command.onlyLower ? '1' : '0'}\n`;
    case 'pause':
      return `P\n${micros(command.seconds)}\n`;
    case 'resume':
      return 'U\n';
    case 'replace':
      return `E\n${command.owner}\n`;
    case 'hold':
      return `K\n${command.serial}\n${command.item}\n`;
    default:
      return `W\n${command.serial}\n${command.cost}\n${command.ticket}\n`;
  }
}

/** An event for one call or for a whole throttle. Spans are in seconds, instants in microseconds of the server. */
export type Event =
  /** A grant. `item` is the record of the grant: slots, instant, cost and number. `slot`: the first slot; 0 for none. */
  | {
      readonly kind: 'granted';
      readonly serial: string;
      readonly slot: number;
      readonly grantedAt: number;
      readonly item: string;
      /** Whether Redis has granted it before this batch, and repeats it. */
      readonly isRepeated: boolean;
    }
  /** A place in the queue. With `returnedAt` > 0, the waiter has returned to the queue, and earlier grants are void. */
  | { readonly kind: 'queued'; readonly serial: string; readonly ticket: number; readonly returnedAt: number }
  /** A refusal. `wait` is the time that the pause and the tokens require. */
  | {
      readonly kind: 'late' | 'queue full';
      readonly serial: string;
      readonly wait: number;
      readonly active: number;
      readonly waiting: number;
    }
  /** `rate`: the name of the rate, as the script prints it; empty for a rate without a name. */
  | { readonly kind: 'oversize'; readonly serial: string; readonly burst: number; readonly rate: string }
  /** The reply to the first sending of the batch was lost, and it refused the call. */
  | { readonly kind: 'refused earlier'; readonly serial: string }
  | { readonly kind: 'lease lost'; readonly serial: string }
  /** The throttle must call the script again after `span`. */
  | { readonly kind: 'wake'; readonly span: number; readonly at: number }
  /** The permissions of earlier replies are void. */
  | { readonly kind: 'withdrawn'; readonly version: number }
  | { readonly kind: 'reset' };

/** The smallest and the largest number of fields of each kind of event. */
const FIELDS: ReadonlyMap<string, readonly [least: number, most: number]> = new Map([
  ['G', [5, 5]],
  ['g', [5, 5]],
  ['Q', [2, 3]],
  ['L', [4, 4]],
  ['F', [4, 4]],
  ['O', [2, 3]],
  ['N', [1, 1]],
  ['X', [1, 1]],
  ['H', [2, 2]],
  ['V', [1, 1]],
  ['Z', [0, 0]],
]);

/** Whether a field is a number from 0, such as a script prints it. */
const isNumber = (field: string): boolean => field !== '' && Number(field) >= 0 && Number(field) < Infinity;

/** Whether a field of an event, other than its serial, can be what it must be. Most fields are numbers. */
function isField(kind: string, field: string, index: number): boolean {
  if (kind === 'O' && index === 1) return true;
  if (kind !== 'G' && kind !== 'g') return isNumber(field);
  return index === 0 ? field.split(',').every(isNumber) : index === 2 ? isCharge(field) : isNumber(field);
}

/** Reads the whole number between two places of a line. Returns -1 if there is none of at most 16 digits. */
function readDigits(line: string, from: number, till: number): number {
  if (till <= from || till - from > 16) return -1;
  let number = 0;
  for (let index = from; index < till; index++) {
    const digit = line.charCodeAt(index) - 48;
    if (digit < 0 || digit > 9) return -1;
    number = number * 10 + digit;
  }
  return number;
}

const [SPACE, UPPER_G, LOWER_G, UPPER_Q] = [32, 71, 103, 81];

/**
 * Parses the two most frequent events in their most frequent forms, three times as fast as {@link decodeEvent}: a
 * waiter's place in the queue, and a grant of one slot at a cost that is a whole number.
 */
function decodeFrequent(line: string): Event | undefined {
  const kind = line.charCodeAt(0);
  const serialEnd = line.indexOf(' ', 2);
  if (serialEnd < 0 || line.charCodeAt(1) !== SPACE) return undefined;
  if (kind === UPPER_Q) {
    const ticket = readDigits(line, serialEnd + 1, line.length);
    return ticket < 0 ? undefined : { kind: 'queued', serial: line.slice(2, serialEnd), ticket, returnedAt: 0 };
  }
  if (kind !== UPPER_G && kind !== LOWER_G) return undefined;
  const slotEnd = line.indexOf(' ', serialEnd + 1);
  const grantedAtEnd = line.indexOf(' ', slotEnd + 1);
  const costEnd = line.indexOf(' ', grantedAtEnd + 1);
  if (slotEnd < 0 || grantedAtEnd < 0 || costEnd < 0) return undefined;
  const slot = readDigits(line, serialEnd + 1, slotEnd);
  const grantedAt = readDigits(line, slotEnd + 1, grantedAtEnd);
  const cost = readDigits(line, grantedAtEnd + 1, costEnd);
  const number = readDigits(line, costEnd + 1, line.length);
  if (slot < 0 || grantedAt < 0 || cost < 0 || number < 0) return undefined;
  const item = line.slice(serialEnd + 1);
  return { kind: 'granted', serial: line.slice(2, serialEnd), slot, grantedAt, item, isRepeated: kind === LOWER_G };
}

/** Parses one event. Returns `undefined` for a line that is no event: any program may publish on a channel. */
export function decodeEvent(line: string): Event | undefined {
  const frequent = decodeFrequent(line);
  if (frequent !== undefined) return frequent;
  const words = line.split(' ');
  const [kind = '', serial = ''] = words;
  const [least, most] = FIELDS.get(kind) ?? [Infinity, 0];
  if (words.length <= least || words.length > most + 1) return undefined;
  const first = kind === 'H' || kind === 'V' ? 1 : 2;
  for (let index = first; index < words.length; index++)
    if (!isField(kind, words[index] as string, index - first)) return undefined;
  const number = (index: number): number => Number(words[index + 2] ?? 0);
  switch (kind) {
    case 'G':
    case 'g': {
      const item = line.slice(kind.length + serial.length + 2);
      const slot = Number.parseInt(item, 10);
      return { kind: 'granted', serial, slot, grantedAt: number(1), item, isRepeated: kind === 'g' };
    }
    case 'Q':
      return { kind: 'queued', serial, ticket: number(0), returnedAt: number(1) };
    case 'L':
    case 'F': {
      const wait = number(0) >= ENDLESS ? Infinity : number(0) / 1e6;
      return { kind: kind === 'L' ? 'late' : 'queue full', serial, wait, active: number(1), waiting: number(2) };
    }
    case 'O':
      return { kind: 'oversize', serial, burst: number(0), rate: words[3] ?? '' };
    case 'N':
      return { kind: 'refused earlier', serial };
    case 'X':
      return { kind: 'lease lost', serial };
    case 'H':
      return { kind: 'wake', span: decodeSpan(Number(serial)), at: number(0) };
    case 'V':
      return { kind: 'withdrawn', version: Number(serial) };
    case 'Z':
      return { kind: 'reset' };
    default:
      return undefined;
  }
}

const decodeSpan = (span: number): number => (span < ENDLESS ? span / 1e6 : Infinity);

/** The reply of the script to a batch. */
export interface Reply {
  /**
   * `refused`: an earlier batch is missing. `unknown owner`: Redis does not know the owner. Nothing has changed then.
   */
  readonly outcome: 'applied' | 'refused' | 'unknown owner';
  /** Whether released slots may linger. */
  readonly linger: boolean;
  /** Grows with each withdrawal of permissions. */
  readonly version: number;
  /** The ticket of the last waiter to whom the process may hand a slot on; 0 for none. */
  readonly upTo: number;
  /** Seconds until the throttle must call the script again; `Infinity` for never. */
  readonly wakeSpan: number;
  /** The same instant by the clock of the server, in microseconds. */
  readonly wakeAt: number;
  readonly events: readonly Event[];
}

const OUTCOMES: ReadonlyMap<string, Reply['outcome']> = new Map([
  ['A', 'applied'],
  ['L', 'applied'],
  ['R', 'refused'],
  ['U', 'unknown owner'],
]);

/**
 * Parses the reply to the batch number `sequence` with `commands`.
 *
 * @throws {TypeError} The reply is not from the script, or lacks an event for a request.
 */
export function decodeReply(commands: readonly Command[], reply: unknown, sequence: number): Reply {
  const lines = typeof reply === 'string' ? reply.split('\n') : [''];
  const [letter, ...words] = (lines[0] as string).split(' ') as [string, ...string[]];
  const outcome = OUTCOMES.get(letter);
  const numbers = words.map((word) => readDigits(word, 0, word.length));
  let isWhole = numbers.length <= 4 && !numbers.includes(-1);
  const events: Event[] = [];
  for (let index = 1; index < lines.length; index++) {
    const event = decodeEvent(lines[index] as string);
    if (event === undefined) isWhole = false;
    else events.push(event);
  }
  // Every script accepts the first batch of an owner. To begin anew after such a reply would never end.
  const isPossible = outcome === 'applied' ? coversRequests(commands, events) : sequence > 0;
  if (outcome === undefined || !isWhole || !isPossible)
    throw new TypeError('the client has returned a reply that is not from the script');
  const [version = 0, upTo = 0, wakeSpan = 0, wakeAt = 0] = numbers;
  return {
    outcome,
    linger: letter === 'L',
    version,
    upTo,
    wakeSpan: wakeAt > 0 ? decodeSpan(wakeSpan) : Infinity,
    wakeAt,
    events,
  };
}

/**
 * Whether `events` has an event for each request. A request without an event would stay pending forever. The script
 * decides the requests of a batch in their order.
 */
function coversRequests(commands: readonly Command[], events: readonly Event[]): boolean {
  let next = 0;
  for (const command of commands) {
    if (command.kind !== 'acquire') continue;
    for (; ; next++) {
      const event = events[next];
      if (event === undefined) return false;
      if ((event as { serial?: string }).serial === command.serial) break;
    }
  }
  return true;
}
