/** A model of the step for a gate without a rate, written from the protocol. It has no bounds, and it is slow. */
import { type Answer, START } from './support.js';

interface Waiter {
  readonly owner: string;
  readonly serial: string;
  readonly ticket: number;
}

interface Owner {
  next: number;
  expiry: number;
  limit: number;
}

export interface ReferenceBatch {
  readonly owner: string;
  readonly number: number;
  readonly at: number;
  readonly ttl: number;
  readonly limit: number;
  readonly flags: string;
  readonly maxQueue: number;
  readonly commands: readonly (readonly string[])[];
}

export class ReferenceStep {
  readonly owners: Map<string, Owner> = new Map();
  queue: Waiter[] = [];
  /** The slot and the instant of the grant, by id. */
  readonly leases: Map<string, { slot: number; granted: number; owner: string }> = new Map();
  readonly permitted: Map<string, string> = new Map();
  /** The cost of each request, by id. */
  readonly #costs: Map<string, string> = new Map();
  #caller = '';
  #now = 0;
  #ticket = 0;
  #paused = 0;
  withdrawals = 0;
  #events: string[] = [];
  #messages: Map<string, string[]> = new Map();

  next(owner: string): number {
    return this.owners.get(owner)?.next ?? 0;
  }

  get paused(): boolean {
    return this.#now < this.#paused;
  }

  /** Returns the outcome without the wake-up time, or `U` or `R`. */
  apply(batch: ReferenceBatch): Pick<Answer, 'outcome' | 'events' | 'messages'> {
    this.#events = [];
    this.#messages = new Map();
    this.#caller = batch.owner;
    const now = Math.max(this.#now, START + batch.at);
    const known = this.owners.get(batch.owner);
    if (known === undefined && batch.number > 0) return { outcome: 'U', events: [], messages: [] };
    if (known !== undefined && batch.number > known.next) return { outcome: 'R', events: [], messages: [] };
    if (this.owners.size === 0 && this.#paused <= now) this.#restart();
    this.#now = now;
    const isDuplicate = known !== undefined && batch.number < known.next;
    const self = known ?? { next: 0, expiry: 0, limit: 0 };
    this.owners.set(batch.owner, self);
    self.expiry = this.#now + batch.ttl;
    if (!isDuplicate) Object.assign(self, { next: batch.number + 1, limit: batch.limit });
    for (const [name, { expiry }] of this.owners) if (expiry <= this.#now) this.#remove(name);
    let withdraws = false;
    for (const command of batch.commands)
      if (isDuplicate) this.#repeat(batch.owner, command);
      else withdraws = this.#command(batch, command) || withdraws;
    this.#drain();
    if (!isDuplicate && batch.flags.includes('e') && !this.#holdsAnything(batch.owner)) {
      this.owners.delete(batch.owner);
    }
    return { outcome: this.#permit(batch, withdraws), events: this.#events, messages: this.#listMessages() };
  }

  #restart(): void {
    this.#ticket = 0;
    this.permitted.clear();
  }

  #holdsAnything(owner: string): boolean {
    return [...this.queue, ...this.leases.values()].some((held) => held.owner === owner);
  }

  #remove(owner: string): void {
    this.owners.delete(owner);
    this.queue = this.queue.filter((waiter) => waiter.owner !== owner);
    for (const [id, lease] of this.leases) if (lease.owner === owner) this.leases.delete(id);
  }

  #notify(caller: string, owner: string, event: string): void {
    if (owner === caller) this.#events.push(event);
    else this.#messages.set(owner, [...(this.#messages.get(owner) ?? []), event]);
  }

  #listMessages(): string[] {
    return [...this.#messages].map(([owner, events]) => [owner, ...events].join('\n')).toSorted();
  }

  #item(id: string): string {
    const { slot, granted } = this.leases.get(id)!;
    return `${slot} ${granted} ${this.#costs.get(id) ?? '1'} 0`;
  }

  #repeat(owner: string, [word = '', serial = '']: readonly string[]): void {
    if (word !== 'A' && word !== 'W') return;
    const id = `${owner}.${serial}`;
    const waiter = this.queue.find((waits) => waits.owner === owner && waits.serial === serial);
    if (this.leases.has(id)) this.#events.push(`g ${serial} ${this.#item(id)}`);
    else this.#events.push(waiter === undefined ? `N ${serial}` : `Q ${serial} ${waiter.ticket}`);
  }

  /** Returns whether the command withdraws permissions. */
  #command(batch: ReferenceBatch, [word = '', serial = '', third = '', fourth = '']: readonly string[]): boolean {
    const { owner } = batch;
    const id = `${owner}.${serial}`;
    if (word === 'A' || word === 'W') this.#costs.set(id, third);
    switch (word) {
      case 'E':
        if (this.owners.has(serial)) this.#remove(serial);
        return false;
      case 'A': {
        const timeout = Number(fourth);
        // A request that is not refused joins the queue before the waiters that fit leave it.
        if (timeout === 0 || batch.maxQueue >= 0) this.#drain();
        const wait = Math.max(0, this.#paused - this.#now);
        if (this.queue.length === 0 && this.#fits(batch.limit)) this.#grant(owner, serial);
        else if (timeout === 0 || (timeout > 0 && timeout < wait))
          this.#events.push(`L ${serial} ${wait} ${this.leases.size} ${this.queue.length}`);
        else if (batch.maxQueue >= 0 && this.queue.length >= batch.maxQueue)
          this.#events.push(`F ${serial} ${wait} ${this.leases.size} ${this.queue.length}`);
        else this.#events.push(`Q ${serial} ${this.#join(owner, serial)}`);
        return false;
      }
      case 'R':
        this.leases.delete(id);
        return false;
      case 'C':
        this.leases.delete(id);
        this.queue = this.queue.filter((waiter) => waiter.owner !== owner || waiter.serial !== serial);
        return false;
      case 'W': {
        const waiter = this.queue.find((waits) => waits.owner === owner && waits.serial === serial);
        if (this.leases.has(id)) this.#events.push(`g ${serial} ${this.#item(id)}`);
        else if (waiter === undefined) this.#events.push(`Q ${serial} ${this.#join(owner, serial)} ${this.#now}`);
        else this.#events.push(`Q ${serial} ${waiter.ticket}`);
        return false;
      }
      case 'K': {
        const [slot = 0, granted = 0] = third.split(' ').map(Number);
        if (this.leases.has(id)) return false;
        if ([...this.leases.values()].some((lease) => lease.slot === slot)) this.#events.push(`X ${serial}`);
        else this.leases.set(id, { slot, granted, owner });
        return false;
      }
      case 'P':
        this.#drain();
        this.#paused = Math.max(this.#paused, this.#now + Number(serial));
        return true;
      default:
        this.#paused = 0;
        return false;
    }
  }

  #join(owner: string, serial: string): number {
    this.#ticket = Math.max(this.#ticket + 1, this.#now);
    this.queue.push({ owner, serial, ticket: this.#ticket });
    return this.#ticket;
  }

  #fits(limit: number): boolean {
    return (limit < 0 || this.leases.size < limit) && !this.paused;
  }

  #grant(owner: string, serial: string): void {
    const used = new Set([...this.leases.values()].map(({ slot }) => slot));
    let slot = 1;
    while (used.has(slot)) slot++;
    const id = `${owner}.${serial}`;
    this.leases.set(id, { slot, granted: this.#now, owner });
    this.#notify(this.#caller, owner, `G ${serial} ${this.#item(id)}`);
  }

  #drain(): void {
    for (let head = this.queue[0]; head !== undefined; head = this.queue[0]) {
      if (!this.#fits(this.owners.get(head.owner)!.limit)) return;
      this.queue.shift();
      this.#grant(head.owner, head.serial);
    }
  }

  /** Withdraws what is void, and records what the reply permits. */
  #permit(batch: ReferenceBatch, withdraws: boolean): string {
    const { owner } = batch;
    const recalled = [...this.permitted].some(
      ([name, kind]) =>
        kind === 'L' && name !== owner && this.owners.has(name) && this.queue.some((waiter) => waiter.owner !== name),
    );
    if (withdraws || recalled) {
      this.withdrawals++;
      for (const name of this.permitted.keys()) if (name !== owner) this.#notify(owner, name, 'V');
      this.permitted.clear();
    }
    this.permitted.delete(owner);
    const self = this.owners.get(owner);
    if (self === undefined || this.paused || (self.limit >= 0 && this.leases.size > self.limit)) return 'A';
    const lingers = batch.flags.includes('l') && this.queue.every((waiter) => waiter.owner === owner);
    if (lingers) this.permitted.set(owner, 'L');
    else if (this.queue[0]?.owner === owner) this.permitted.set(owner, 'U');
    return lingers ? 'L' : 'A';
  }
}
