/** How Redis applies a batch. Each function changes the state that it is given. */
import { PAUSE, type Rules, BOUND, TTL } from './rules.js';
import type {
  Batch,
  CallId,
  Command,
  Lease,
  Message,
  Owner,
  Place,
  ProcessId,
  Reply,
  Request,
  State,
} from './state.js';

/** Something that the properties judge. */
export type Note =
  | {
      readonly kind: 'granted';
      readonly call: CallId;
      readonly active: number;
      readonly limit: number;
      readonly paused: boolean;
    }
  | { readonly kind: 'handedOn'; readonly process: ProcessId; readonly call: CallId }
  | { readonly kind: 'lingerUsed'; readonly process: ProcessId; readonly call: CallId };

const activeCount = (slots: readonly CallId[]): number => slots.reduce((count, lease) => count + Number(lease >= 0), 0);

export function redisTick({ redis }: State, { setsBack, fault }: Rules): void {
  redis.lostAge = Math.min(BOUND, redis.lostAge + 1);
  if (setsBack) redis.silence = Math.min(TTL, redis.silence + 1);
  if (fault === 'clockStandsStill' && redis.lag > 0) return;
  const oldest = TTL + redis.lag + redis.grace;
  redis.owners = redis.owners.map((owner) => owner && { ...owner, age: Math.min(oldest, owner.age + 1) });
  if (redis.pausedAge >= 0) redis.pausedAge = redis.pausedAge + 1 >= PAUSE ? -1 : redis.pausedAge + 1;
  redis.loweredAge = Math.min(BOUND, redis.loweredAge + 1);
}

/** Applies a batch of `process` and returns the reply. */
export function applyBatch(state: State, process: ProcessId, request: Request, rules: Rules, notes: Note[]): Reply {
  return new Application(state, process, rules, notes).apply(request);
}

/** Ticks after which an owner has expired. */
export const lifetime = ({ redis }: State, { fault }: Rules): number => (fault === 'noGrace' ? TTL : TTL + redis.grace);

export function publish(state: State, process: ProcessId, message: Message): void {
  const link = state.links[process]!;
  if (!state.processes[process]!.crashed) state.links[process] = { ...link, messages: [...link.messages, message] };
}

/** Publishes a pause or a lower limit to every owner but the process that requested it. */
export function withdrawAll(state: State, except = -1): void {
  const { redis } = state;
  redis.version++;
  for (const [process, owner] of redis.owners.entries())
    if (owner !== undefined && process !== except)
      publish(state, process, { kind: 'withdraw', version: redis.version });
}

class Application {
  readonly #grants: Lease[] = [];
  readonly #lost: CallId[] = [];

  constructor(
    readonly state: State,
    readonly process: ProcessId,
    readonly rules: Rules,
    readonly notes: Note[],
  ) {}

  apply({ batch, age }: Request): Reply {
    const { state, process, rules } = this;
    for (const [other, owner] of state.redis.owners.entries())
      if (other !== process && owner !== undefined && owner.age >= lifetime(state, rules)) this.#removeOwner(other);
    state.redis.silence = 0;
    const outcome = this.#accept(batch);
    this.#grantHeads();
    const linger = rules.linger && this.#mayLinger();
    const owner = state.redis.owners[process];
    if (outcome === 'applied' && owner !== undefined) state.redis.owners[process] = { ...owner, lingers: linger };
    this.#recall();
    return {
      outcome,
      batch,
      age,
      version: state.redis.version,
      grants: this.#grants,
      lost: this.#lost,
      row: outcome === 'applied' ? this.#row() : [],
      linger: outcome === 'applied' && linger,
      life: state.redis.life,
    };
  }

  #accept(batch: Batch): Reply['outcome'] {
    const { owners } = this.state.redis;
    const { process } = this;
    const { fault } = this.rules;
    let owner: Owner | undefined = owners[process];
    if (batch.sequence === 0 && (owner === undefined || batch.epoch > owner.epoch)) {
      this.#removeOwner(process);
      owner = { epoch: batch.epoch, next: 0, age: 0, lingers: false };
    }
    if (owner === undefined && (fault === 'transferToLapsed' || fault === 'unknownOwnerServed'))
      owner = { epoch: batch.epoch, next: batch.sequence, age: 0, lingers: false };
    if (owner === undefined || batch.epoch !== owner.epoch) return 'unknown owner';
    if (batch.sequence > owner.next && !this.#ignoresOrder(batch)) return 'refused';
    const isOld = batch.sequence < owner.next;
    owners[process] = { ...owner, age: 0, next: Math.max(owner.next, batch.sequence + 1) };
    for (const command of batch.commands)
      if (isOld && !this.#ignoresAge(command)) this.#repeatGrants(command);
      else this.#applyCommand(command);
    return 'applied';
  }

  #ignoresOrder({ commands }: Batch): boolean {
    const { fault } = this.rules;
    return (
      fault === 'gapAccepted' || (fault === 'cancelBeforeAcquire' && commands.some(({ kind }) => kind === 'cancel'))
    );
  }

  #ignoresAge({ kind }: Command): boolean {
    const { fault } = this.rules;
    if (fault === 'renewalOutOfOrder') return kind === 'renew';
    if (fault === 'cancelBeforeAcquire') return kind === 'acquire';
    return fault === 'gapAccepted' || fault === 'duplicateApplied';
  }

  #applyCommand(command: Command): void {
    const { redis } = this.state;
    const { fault } = this.rules;
    switch (command.kind) {
      case 'acquire':
        if (!this.#repeatGrant(command.call) && !this.#waits(command.call)) this.#join(command.call);
        return;
      case 'release':
        this.#free(command.lease);
        return;
      case 'cancel':
        this.#leave(command.call);
        if (fault !== 'cancelKeepsGrant') this.#free(command.call);
        return;
      case 'transfer':
        this.#leave(command.call);
        if (fault !== 'extraSlotKept') this.#free(command.call);
        if (fault === 'transferToLapsed') this.#occupy(command.lease, command.slot);
        return;
      case 'pause':
        redis.pausedAge = 0;
        withdrawAll(this.state, this.process);
        return;
      case 'renew':
        for (const { lease, slot } of command.leases) {
          if (redis.slots.includes(lease)) continue;
          if (redis.slots[slot] === -1) this.#occupy(lease, slot);
          else if (fault !== 'lostLeaseKept') this.#lost.push(lease);
        }
        for (const call of command.calls)
          if (fault === 'grantNotRepeated' && redis.slots.includes(call)) continue;
          else if (!this.#repeatGrant(call) && !this.#waits(call)) this.#return(call);
        return;
    }
  }

  /** A duplicate changes nothing, yet its process may not know what became of its calls. */
  #repeatGrants(command: Command): void {
    if (command.kind === 'acquire') this.#repeatGrant(command.call);
    else if (command.kind === 'renew') for (const call of command.calls) this.#repeatGrant(call);
  }

  #repeatGrant(call: CallId): boolean {
    const slot = this.state.redis.slots.indexOf(call);
    if (slot >= 0 && !this.#grants.some(({ lease }) => lease === call)) this.#grants.push({ lease: call, slot });
    return slot >= 0;
  }

  #waits(call: CallId): boolean {
    return this.state.redis.queue.some((place) => place.call === call);
  }

  #join(call: CallId): void {
    const { redis } = this.state;
    redis.queue = [...redis.queue, { call, age: 0, isLate: false }];
    if (!this.rules.forgets) return;
    const { calls } = this.state;
    const ticket = Math.max(...calls.map((other) => other.ticket)) + 1;
    calls[call] = { ...calls[call]!, ticket, isOld: false };
  }

  /** A waiter with a ticket of an earlier life of Redis takes its old place. Others may have to wait longer then. */
  #return(call: CallId): void {
    const { redis, calls } = this.state;
    const { ticket, isOld } = calls[call]!;
    if (!isOld) return this.#join(call);
    const isLate = redis.lostAge >= BOUND;
    const end = redis.queue.findIndex(
      (place) => calls[place.call]!.ticket > ticket && this.rules.fault !== 'placesLost',
    );
    redis.queue = redis.queue.toSpliced(end < 0 ? redis.queue.length : end, 0, { call, age: 0, isLate });
    withdrawAll(this.state, this.process);
  }

  #leave(call: CallId): void {
    const { redis } = this.state;
    redis.queue = redis.queue.filter((place) => place.call !== call);
  }

  #occupy(lease: CallId, slot: number): void {
    const { redis } = this.state;
    redis.slots = redis.slots.with(slot, lease);
  }

  #free(lease: CallId): void {
    const { redis } = this.state;
    if (redis.slots.includes(lease)) redis.slots = redis.slots.map((held) => (held === lease ? -1 : held));
  }

  #removeOwner(process: ProcessId): void {
    const { redis } = this.state;
    const { owners } = this.rules;
    redis.owners[process] = undefined;
    redis.queue = redis.queue.filter(({ call }) => owners[call] !== process);
    redis.slots = redis.slots.map((lease) => (owners[lease] === process ? -1 : lease));
  }

  #isOpen(): boolean {
    const { redis } = this.state;
    return redis.pausedAge < 0 && activeCount(redis.slots) < redis.limit;
  }

  #grantHeads(): void {
    const { redis } = this.state;
    while (redis.queue.length > 0 && this.#isOpen()) {
      const [head, ...rest] = redis.queue as [Place, ...Place[]];
      redis.queue = rest;
      const slot = redis.slots.indexOf(-1);
      this.#occupy(head.call, slot);
      this.notes.push({
        kind: 'granted',
        call: head.call,
        active: activeCount(redis.slots),
        limit: redis.limit,
        paused: redis.pausedAge >= 0,
      });
      const process = this.rules.owners[head.call]!;
      if (process === this.process) this.#grants.push({ lease: head.call, slot });
      else publish(this.state, process, { kind: 'grant', epoch: redis.owners[process]!.epoch, call: head.call, slot });
    }
  }

  /** Without a pause, and with no more leases than the limit, a lease may serve the next waiter. */
  #mayServeOn(): boolean {
    const { redis } = this.state;
    return redis.pausedAge < 0 && activeCount(redis.slots) <= redis.limit;
  }

  #row(): CallId[] {
    const { owners, fault } = this.rules;
    if (!this.#mayServeOn() && fault !== 'rowWhilePaused') return [];
    const calls = this.state.redis.queue.map(({ call }) => call);
    if (fault === 'rowPastOthers') return calls.filter((call) => owners[call] === this.process);
    const end = calls.findIndex((call) => owners[call] !== this.process);
    return end < 0 ? calls : calls.slice(0, end);
  }

  #mayLinger(): boolean {
    if (this.rules.fault === 'lingerNotRecalled') return true;
    return this.#mayServeOn() && !this.#othersWait(this.process);
  }

  #othersWait(process: ProcessId): boolean {
    return this.state.redis.queue.some(({ call }) => this.rules.owners[call] !== process);
  }

  /**
   * Withdraws the permission of each other process whose released slots may linger while a waiter of another needs one.
   */
  #recall(): void {
    const { redis } = this.state;
    if (this.rules.fault === 'lingerNotRecalled') return;
    for (const [process, owner] of redis.owners.entries()) {
      if (process === this.process || owner === undefined || !owner.lingers || !this.#othersWait(process)) continue;
      redis.version++;
      redis.owners[process] = { ...owner, lingers: false };
      publish(this.state, process, { kind: 'withdraw', version: redis.version });
    }
  }
}
