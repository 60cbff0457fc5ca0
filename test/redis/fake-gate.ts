/**
 * A {@link FakeRedis} applies one batch with this code: the wire protocol of `src/redis/protocol.ts` in plain
 * TypeScript, for a gate without a rate. It is written from the description of the protocol, not from the script, so
 * that a test can compare both. All work is O(n): the fake has no bounds on the work of one call.
 */

/** The microseconds that stand for Infinity. */
const FOREVER = Number.MAX_SAFE_INTEGER;
const LONGEST_ROW = 64;
const MOST_PERMISSIONS = 64;

export interface Owner {
  /** The number of the next batch. */
  next: number;
  expiry: number;
  limit: number;
}

export interface Waiter {
  readonly owner: string;
  readonly serial: string;
  readonly cost: string;
  readonly ticket: number;
}

export interface HeldLease {
  readonly owner: string;
  readonly serial: string;
  readonly slot: number;
  readonly item: string;
}

/** The state of one gate. Instants are in microseconds. */
export class FakeGate {
  readonly owners: Map<string, Owner> = new Map();
  /** By ticket. */
  queue: Waiter[] = [];
  /** By owner and serial. */
  readonly leases: Map<string, HeldLease> = new Map();
  readonly slots: Set<number> = new Set();
  pausedUntil = 0;
  /** The owners with a permission, and whether released slots may linger there. */
  readonly permissions: Map<string, boolean> = new Map();
  readonly createdAt: number;
  version: number;
  ticket: number;
  /** The wake-up time that the owner of the head has received. */
  notified = '';

  constructor(now: number) {
    this.createdAt = this.version = this.ticket = now;
  }

  lease(owner: string, serial: string): HeldLease | undefined {
    return this.leases.get(`${owner} ${serial}`);
  }

  add(lease: HeldLease): void {
    this.leases.set(`${lease.owner} ${lease.serial}`, lease);
    this.slots.add(lease.slot);
  }

  free(owner: string, serial: string): void {
    const { slot = 0 } = this.lease(owner, serial) ?? {};
    this.leases.delete(`${owner} ${serial}`);
    this.slots.delete(slot);
  }

  waiter(owner: string, serial: string): Waiter | undefined {
    return this.queue.find((waiter) => waiter.owner === owner && waiter.serial === serial);
  }

  removeOwner(owner: string): void {
    this.owners.delete(owner);
    this.permissions.delete(owner);
    this.queue = this.queue.filter((waiter) => waiter.owner !== owner);
    for (const lease of this.leases.values()) if (lease.owner === owner) this.free(owner, lease.serial);
  }

  isPaused(now: number): boolean {
    return this.pausedUntil > now;
  }
}

/** The number of words of each command. */
const LENGTHS: ReadonlyMap<string, number> = new Map(
  Object.entries({ A: 4, R: 2, C: 3, S: 5, P: 2, U: 1, E: 2, K: 3, W: 4 }),
);

function* commandsOf(words: readonly string[]): Generator<readonly string[]> {
  for (let from = 0; from < words.length;) {
    const kind = words[from] as string;
    const length = LENGTHS.get(kind);
    if (length === undefined) throw new Error(`ERR unknown command ${kind}`);
    yield words.slice(from, (from += length));
  }
}

/** Adds an event to the message for an owner. Without an event, the message is an echo. */
export type Publish = (owner: string, event?: string) => void;

/** One call of the script. */
export class Step {
  readonly #gate: FakeGate;
  readonly #now: number;
  readonly #publish: Publish;
  readonly #owner: string;
  readonly #maxQueue: number;
  readonly #events: string[] = [];
  /** The leases of this call: to repeat one of them is no repetition. */
  readonly #granted = new Set<string>();

  constructor(gate: FakeGate, now: number, owner: string, maxQueue: number, publish: Publish) {
    this.#gate = gate;
    this.#now = now;
    this.#owner = owner;
    this.#maxQueue = maxQueue < 0 ? Infinity : maxQueue;
    this.#publish = publish;
  }

  run(number: number, ttl: number, limit: number, flags: string, words: readonly string[]): string {
    const gate = this.#gate;
    for (const [name, { expiry }] of gate.owners) if (expiry <= this.#now) gate.removeOwner(name);
    if (flags.includes('p')) this.#publish(this.#owner);
    const owner = gate.owners.get(this.#owner) ?? { next: 0, expiry: 0, limit: 0 };
    if (number > owner.next) return this.#grantAll(gate.owners.has(this.#owner) ? 'R' : 'U');
    gate.owners.set(this.#owner, owner);
    owner.expiry = this.#now + ttl;
    if (number < owner.next) for (const command of commandsOf(words)) this.#repeat(command);
    else {
      owner.next++;
      owner.limit = limit < 0 ? Infinity : limit;
      for (const command of commandsOf(words)) this.#apply(command);
    }
    this.#grantAll('');
    this.#recall();
    const head = this.#head(owner, flags);
    if (flags.includes('e') && !this.#isUsed()) gate.removeOwner(this.#owner);
    return [head, ...this.#events].join('\n');
  }

  #isUsed(): boolean {
    return [...this.#gate.queue, ...this.#gate.leases.values()].some(({ owner }) => owner === this.#owner);
  }

  #apply([kind = '', first = '', second = '', third = '']: readonly string[]): void {
    const gate = this.#gate;
    switch (kind) {
      case 'A':
        return this.#request(first, second, Number(third));
      case 'R':
        gate.free(this.#owner, first);
        break;
      case 'C': {
        const waiter = gate.waiter(this.#owner, first);
        gate.queue = gate.queue.filter((other) => other !== waiter);
        gate.free(this.#owner, first);
        break;
      }
      case 'P': {
        const span = Number(first);
        gate.pausedUntil = Math.max(gate.pausedUntil, span >= FOREVER ? Infinity : this.#now + span);
        this.#withdraw();
        break;
      }
      case 'U':
        gate.pausedUntil = 0;
        break;
      case 'E':
        gate.removeOwner(first);
        break;
      case 'K': {
        const slot = Number(second.split(' ')[0]);
        if (gate.slots.has(slot)) this.#events.push(`X ${first}`);
        else gate.add({ owner: this.#owner, serial: first, slot, item: second });
        break;
      }
      case 'W':
        return this.#stateWaiter(first, second, Number(third));
    }
    this.#grantAll('');
  }

  #request(serial: string, cost: string, timeout: number): void {
    const gate = this.#gate;
    const owner = gate.owners.get(this.#owner) as Owner;
    const isFree = gate.queue.length === 0 && !gate.isPaused(this.#now) && gate.leases.size < owner.limit;
    const wait = gate.isPaused(this.#now) ? Math.min(FOREVER, gate.pausedUntil - this.#now) : 0;
    const refusal = `${serial} ${wait} ${gate.leases.size} ${gate.queue.length}`;
    if (!isFree && (timeout === 0 || (timeout > 0 && timeout < wait))) this.#events.push(`L ${refusal}`);
    else if (!isFree && gate.queue.length >= this.#maxQueue) this.#events.push(`F ${refusal}`);
    else {
      const waiter = this.#join(serial, cost, 0);
      this.#grantAll('');
      if (gate.queue.includes(waiter)) this.#events.push(`Q ${serial} ${waiter.ticket}`);
    }
  }

  #stateWaiter(serial: string, cost: string, ticket: number): void {
    const gate = this.#gate;
    const known = gate.waiter(this.#owner, serial);
    if (this.#repeatGrant(serial)) return;
    if (known !== undefined) this.#events.push(`Q ${serial} ${known.ticket}`);
    else {
      const isOlder = ticket < gate.createdAt;
      this.#events.push(`Q ${serial} ${this.#join(serial, cost, isOlder ? ticket : 0).ticket} ${this.#now}`);
      if (isOlder) this.#withdraw();
      this.#grantAll('');
    }
  }

  /** Adds a waiter with its old ticket, or with a new one at the tail. */
  #join(serial: string, cost: string, oldTicket: number): Waiter {
    const gate = this.#gate;
    const ticket = oldTicket > 0 ? oldTicket : (gate.ticket = Math.max(gate.ticket + 1, this.#now));
    const waiter = { owner: this.#owner, serial, cost, ticket };
    gate.queue.push(waiter);
    if (oldTicket > 0) gate.queue.sort((one, other) => one.ticket - other.ticket);
    return waiter;
  }

  /** The answer to a command of a batch that was applied before. */
  #repeat([kind, serial = '']: readonly string[]): void {
    if ((kind !== 'A' && kind !== 'W') || this.#repeatGrant(serial)) return;
    const waiter = this.#gate.waiter(this.#owner, serial);
    this.#events.push(waiter === undefined ? `N ${serial}` : `Q ${serial} ${waiter.ticket}`);
  }

  #repeatGrant(serial: string): boolean {
    const lease = this.#gate.lease(this.#owner, serial);
    if (lease !== undefined && !this.#granted.has(serial)) this.#events.push(`g ${serial} ${lease.item}`);
    return lease !== undefined;
  }

  #grantAll(reply: string): string {
    const gate = this.#gate;
    for (let [head] = gate.queue; head !== undefined; [head] = gate.queue) {
      const { owner, serial, cost } = head;
      if (gate.isPaused(this.#now) || gate.leases.size >= (gate.owners.get(owner) as Owner).limit) break;
      let slot = 1;
      while (gate.slots.has(slot)) slot++;
      const item = `${slot} ${this.#now} ${cost} 0`;
      gate.queue.shift();
      gate.add({ owner, serial, slot, item });
      if (owner === this.#owner) this.#granted.add(serial);
      if (owner === this.#owner && reply === '') this.#events.push(`G ${serial} ${item}`);
      else this.#publish(owner, `G ${serial} ${item}`);
    }
    return reply;
  }

  #withdraw(): void {
    const gate = this.#gate;
    gate.version++;
    for (const owner of gate.permissions.keys()) if (owner !== this.#owner) this.#publish(owner, `V ${gate.version}`);
    gate.permissions.clear();
  }

  /** Withdraws the permissions if a waiter needs a slot that may linger in another process. */
  #recall(): void {
    const { permissions, queue } = this.#gate;
    for (const [name, lingers] of permissions)
      if (name !== this.#owner && lingers && queue.some(({ owner }) => owner !== name)) return this.#withdraw();
  }

  /** The first line of the reply. */
  #head(owner: Owner, flags: string): string {
    const gate = this.#gate;
    const { permissions, queue } = gate;
    const mayServe = !gate.isPaused(this.#now) && gate.leases.size <= owner.limit;
    permissions.delete(this.#owner);
    const hasRoom = mayServe && permissions.size < MOST_PERMISSIONS;
    const others = queue.findIndex((waiter) => waiter.owner !== this.#owner);
    const row = queue.slice(0, Math.min(LONGEST_ROW, others < 0 ? Infinity : others));
    const upTo = hasRoom ? (row.at(-1)?.ticket ?? 0) : 0;
    const lingers = hasRoom && others < 0 && flags.includes('l');
    if (upTo > 0 || lingers) permissions.set(this.#owner, lingers);
    const fields = [lingers ? 'L' : 'A', gate.version, upTo, ...this.#wakeup()];
    while (fields.at(-1) === 0) fields.pop();
    return fields.join(' ');
  }

  /** When the owner of the head must call again: at the end of the pause, or when a holder may be dead. */
  #wakeup(): [span: number, at: number] {
    const gate = this.#gate;
    const [head] = gate.queue;
    if (head === undefined) return [0, 0];
    const holders = new Set(Array.from(gate.leases.values(), ({ owner }) => owner));
    holders.delete(head.owner);
    const expiries = Array.from(holders, (name) => gate.owners.get(name)?.expiry ?? Infinity);
    const at = gate.isPaused(this.#now) ? gate.pausedUntil : Math.min(...expiries);
    if (at === Infinity) return [0, 0];
    if (head.owner === this.#owner) return [at - this.#now, at];
    const notice = `${head.owner} ${head.serial} ${at}`;
    if (gate.notified !== notice) this.#publish(head.owner, `H ${at - this.#now} ${at}`);
    gate.notified = notice;
    return [0, 0];
  }
}
