/**
 * Judges the trace of the server: replays every batch in a small model of a gate without a rate, and compares each
 * grant with it. The promises: never more leases than the limit, no slot twice, grants in the order of arrival, and no
 * free slot while a caller waits. A cost names its call.
 */
import { headerOf, wordsOf } from '../../redis/batch-words.js';
import { callOf } from './reports.js';
import type { TraceEntry } from './traced-client.js';

interface Owner {
  next: number;
  /** In microseconds of the server. */
  expiry: number;
}

interface Place {
  readonly id: string;
  readonly call: number;
  readonly ticket: number;
  /** When the waiter returned to a place before others; -Infinity for never. In microseconds of the server. */
  readonly returnedAt: number;
}

/** The violations of a history whose calls have all ended: nothing may be left. */
export function violationsAtEnd({ violations, left: { leases, waiters } }: ServerVerdict): string[] {
  const isEmpty = leases + waiters === 0;
  return [...violations, ...(isEmpty ? [] : [`the trace ends with ${leases} leases and ${waiters} waiters`])];
}

export interface ServerVerdict {
  /** The first violations, with the index of their entry. */
  readonly violations: readonly string[];
  readonly entries: number;
  readonly grants: number;
  /** The items of all grants: a holder must have one of them. */
  readonly items: ReadonlySet<string>;
  /** The calls that a process has served by a slot of its own, as Redis has learnt later. */
  readonly handedOn: number;
  readonly expiredOwners: number;
  readonly left: { readonly leases: number; readonly waiters: number };
}

/** The number of words of each command. */
const WORDS: Readonly<Record<string, number>> = { A: 4, C: 3, E: 2, K: 3, P: 2, R: 2, U: 1, W: 4 };
const MOST_VIOLATIONS = 10;

export class ServerJudge {
  readonly #limit: number;
  readonly #violations: string[] = [];
  readonly #owners = new Map<string, Owner>();
  /** The slot of each lease by its id, `owner.serial`. */
  readonly #leases = new Map<string, number>();
  /** The waiters in the order of arrival. */
  #queue: Place[] = [];
  readonly #items = new Set<string>();
  /** The calls whose process has removed them from the queue, and the violation if the process has served the call. */
  readonly #removed = new Map<number, string | undefined>();
  #grants = 0;
  #expired = 0;
  #pausedUntil = 0;
  /** In microseconds. */
  #ttl = 0;
  #index = -1;
  #entry: TraceEntry | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get hasFailed(): boolean {
    return this.#violations.length > 0;
  }

  /** Judges the next entry of the trace. */
  add(entry: TraceEntry): void {
    this.#index++;
    this.#entry = entry;
    if (this.#violations.length < MOST_VIOLATIONS) this.#replay(entry);
  }

  /** `served`: the calls that a process has served without a grant of their own. */
  verdict(served: ReadonlySet<number>): ServerVerdict {
    const handedOn = [...this.#removed].filter(([call]) => served.has(call));
    return {
      violations: [...this.#violations, ...handedOn.flatMap(([, violation]) => violation ?? [])],
      entries: this.#index + 1,
      grants: this.#grants,
      items: this.#items,
      handedOn: handedOn.length,
      expiredOwners: this.#expired,
      left: { leases: this.#leases.size, waiters: this.#queue.length },
    };
  }

  #fail(what: string): void {
    this.#violations.push(this.#describe(what));
  }

  #describe(what: string): string {
    return `entry ${this.#index}: ${what}\n  ${JSON.stringify(this.#entry)}`;
  }

  #replay({ at, args, reply, messages }: TraceEntry): void {
    if (typeof reply !== 'string') return this.#fail(`the reply is an error: ${JSON.stringify(reply)}`);
    const { owner, number: batch, ttl, flags } = headerOf(args);
    const [head = '', ...events] = reply.split('\n');
    // The batch of an expired owner renews it, if that batch comes before any other.
    const renewed = /^[AL]/.test(head) && batch !== '0' ? owner : undefined;
    for (const [name, { expiry }] of this.#owners) if (expiry <= at && name !== renewed) this.#remove(name, true);
    const record = this.#owners.get(owner);
    if (head.startsWith('U') && record !== undefined) this.#fail(`Redis has forgotten ${owner}`);
    if (!head.startsWith('A') && !head.startsWith('L')) return;
    this.#ttl = Number(ttl);
    const expiry = at + this.#ttl;
    if (record !== undefined && Number(batch) < record.next) {
      record.expiry = expiry;
      for (const event of events) this.#checkRepeated(owner, event);
      return;
    }
    if (Number(batch) !== (record?.next ?? 0)) this.#fail(`Redis has applied batch ${batch} of ${owner} out of order`);
    this.#owners.set(owner, { next: Number(batch) + 1, expiry });
    const granted = this.#grantedBy(owner, events, messages);
    this.#apply(owner, args, events);
    this.#take(granted);
    if (this.#queue.length > 0 && this.#leases.size < this.#limit && at >= this.#pausedUntil)
      this.#fail(`a slot is free while call ${this.#queue[0]?.call} waits`);
    const isIdle = ![...this.#leases.keys(), ...this.#queue.map(({ id }) => id)].some((id) => isOf(owner, id));
    if (flags.includes('e') && isIdle) this.#owners.delete(owner);
  }

  /** The items of the grants of one batch, by id. */
  #grantedBy(owner: string, events: readonly string[], messages: TraceEntry['messages']): Map<string, string> {
    const granted = new Map<string, string>();
    const add = (recipient: string, event: string): void => {
      const [kind, serial, ...item] = event.split(' ');
      if (kind === 'G') granted.set(`${recipient}.${serial}`, item.join(' '));
    };
    for (const event of events) {
      add(owner, event);
      this.#checkRepeated(owner, event);
    }
    for (const [channel, text] of messages) {
      const [instance = '', ...lines] = text.split('\n');
      for (const line of lines) add(`${channel.slice('headgate:'.length)}.${instance}`, line);
    }
    return granted;
  }

  #checkRepeated(owner: string, event: string): void {
    const [kind, serial, item = ''] = event.split(' ');
    if (kind === 'g' && this.#leases.get(`${owner}.${serial}`) !== Number(item))
      this.#fail(`Redis repeats a grant of slot ${item} that ${owner}.${serial} does not have`);
  }

  /** Applies the commands of a batch in order, all but its grants. */
  #apply(owner: string, args: readonly string[], events: readonly string[]): void {
    const tickets = new Map<string, number>();
    const refused = new Set<string>();
    for (const event of events) {
      const [kind = '', serial = '', ticket = ''] = event.split(' ');
      if (kind === 'Q') tickets.set(serial, Number(ticket));
      if ('LFOX'.includes(kind)) refused.add(serial);
    }
    const words = wordsOf(args);
    for (let at = 0; at < words.length;) {
      const [word = '', serial = '', cost = ''] = words.slice(at, at + 3);
      const size = WORDS[word];
      if (size === undefined) return this.#fail(`the judge does not know the command ${word}`);
      at += size;
      const id = `${owner}.${serial}`;
      if (word === 'E') this.#remove(serial, false);
      else if (word === 'A' && !refused.has(serial)) this.#arrive(id, callOf(cost), tickets.get(serial));
      else if (word === 'W' && tickets.has(serial)) this.#return(id, callOf(cost), tickets.get(serial) as number);
      else if (word === 'K' && !refused.has(serial)) this.#occupy(id, Number.parseInt(cost, 10));
      else if (word === 'R') this.#leases.delete(id);
      else if (word === 'C') this.#cancel(id, callOf(cost));
      else if (word === 'P') this.#pausedUntil = Infinity;
      else if (word === 'U') this.#pausedUntil = 0;
    }
  }

  /** A call joins the queue at its end, whatever its ticket. A call that is granted at once has no ticket. */
  #arrive(id: string, call: number, ticket: number = this.#queue.at(-1)?.ticket ?? 0, returnedAt = -Infinity): void {
    if (this.#leases.has(id) || this.#queue.some((place) => place.id === id)) return;
    this.#queue.push({ id, call, ticket, returnedAt });
  }

  /** A waiter returns, after Redis has forgotten its owner. If Redis has forgotten all owners, the ticket decides. */
  #return(id: string, call: number, ticket: number): void {
    const isAhead = ticket < (this.#queue.at(-1)?.ticket ?? 0);
    this.#arrive(id, call, ticket, isAhead ? this.#entry?.at : undefined);
    this.#queue.sort((one, other) => one.ticket - other.ticket);
  }

  #cancel(id: string, call: number): void {
    const index = this.#queue.findIndex((place) => place.id === id);
    if (index < 0) {
      this.#leases.delete(id);
      return;
    }
    // A process learns by a message that a waiter has returned before its own waiters. Until then it hands on to those.
    const now = this.#entry?.at ?? 0;
    const passed = this.#queue.slice(0, index).find(({ returnedAt }) => now - returnedAt > this.#ttl);
    this.#removed.set(
      call,
      passed === undefined ? undefined : this.#describe(`call ${call} was handed a slot before call ${passed.call}`),
    );
    this.#queue.splice(index, 1);
  }

  #take(granted: ReadonlyMap<string, string>): void {
    const first = this.#queue.slice(0, granted.size);
    const passed = first.find(({ id }) => !granted.has(id));
    if (passed !== undefined)
      this.#fail(`call ${passed.call} was passed by the grants of ${[...granted.keys()].join()}`);
    const before = this.#queue.length;
    this.#queue = this.#queue.filter(({ id }) => !granted.has(id));
    if (before - this.#queue.length < granted.size)
      this.#fail(`a call that does not wait was granted, of ${[...granted.keys()].join()}`);
    for (const [id, item] of granted) {
      this.#grants++;
      this.#items.add(item);
      this.#occupy(id, Number.parseInt(item, 10));
    }
  }

  #occupy(id: string, slot: number): void {
    if (!(slot >= 1 && slot <= this.#limit)) this.#fail(`${id} has slot ${slot}`);
    for (const [other, taken] of this.#leases)
      if (taken === slot && other !== id) this.#fail(`slot ${slot} of ${other} was given to ${id}`);
    this.#leases.set(id, slot);
    if (this.#leases.size > this.#limit) this.#fail(`${this.#leases.size} leases, of ${this.#limit} allowed`);
  }

  #remove(owner: string, isExpired: boolean): void {
    if (this.#owners.delete(owner) && isExpired) this.#expired++;
    for (const id of this.#leases.keys()) if (isOf(owner, id)) this.#leases.delete(id);
    this.#queue = this.#queue.filter(({ id }) => !isOf(owner, id));
  }
}

/** Whether an id, `owner.serial`, is of an owner. */
const isOf = (owner: string, id: string): boolean => id.slice(0, id.lastIndexOf('.')) === owner;
