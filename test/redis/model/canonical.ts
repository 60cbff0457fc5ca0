/**
 * The canonical form of a state, and its hash. States that differ only in the distance of epochs, sequence numbers and
 * versions from zero behave alike, so each of these numbers is written as its distance from the lowest one in use.
 */
import type { Batch, Command, Lease, Link, Process, ProcessId, Request, State } from './state.js';

const bytes = new Uint8Array(1_024);
let length = 0;

const put = (value: number): void => {
  bytes[length++] = value + 1;
};

function putNumbers(values: readonly number[]): void {
  put(values.length);
  for (let index = 0; index < values.length; index++) put(values[index]!);
}

function putLeases(leases: readonly Lease[]): void {
  put(leases.length);
  for (let index = 0; index < leases.length; index++) {
    put(leases[index]!.lease);
    put(leases[index]!.slot);
  }
}

function putCommand(command: Command): void {
  switch (command.kind) {
    case 'acquire':
      put(1);
      put(command.call);
      return;
    case 'release':
      put(2);
      put(command.lease);
      return;
    case 'cancel':
      put(3);
      put(command.call);
      return;
    case 'transfer':
      put(4);
      put(command.lease);
      put(command.slot);
      put(command.call);
      return;
    case 'pause':
      put(6);
      return;
    case 'renew':
      put(5);
      putLeases(command.leases);
      putNumbers(command.calls);
      return;
  }
}

function putCommands(commands: readonly Command[]): void {
  put(commands.length);
  for (let index = 0; index < commands.length; index++) putCommand(commands[index]!);
}

const STATUSES = { idle: 1, waiting: 2, holding: 3, ended: 4 } as const;
const OUTCOMES = { applied: 1, refused: 2, 'unknown owner': 3 } as const;

let [version, epoch, sequence] = [0, 0, 0];

function putBatch(batch: Batch): void {
  put(batch.epoch - epoch);
  put(batch.sequence - sequence);
  putCommands(batch.commands);
}

function putRequest({ batch, age }: Request): void {
  put(age);
  putBatch(batch);
}

function lowestVersion({ redis, processes, links }: State): number {
  let lowest = redis.version;
  for (let index = 0; index < processes.length; index++) {
    const process = processes[index]!;
    if (process.crashed) continue;
    lowest = Math.min(lowest, process.seenVersion);
    if (process.permission !== undefined) lowest = Math.min(lowest, process.permission.version);
    for (const reply of links[index]!.replies) lowest = Math.min(lowest, reply.version);
    for (const message of links[index]!.messages)
      if (message.kind === 'withdraw') lowest = Math.min(lowest, message.version);
  }
  return lowest;
}

function include(batch: Batch): void {
  epoch = Math.min(epoch, batch.epoch);
  sequence = Math.min(sequence, batch.sequence);
}

/**
 * Sets the lowest epoch and sequence number of a process. The first batch of an epoch, number 0, has its own meaning.
 */
function setOrigins(state: State, index: ProcessId): void {
  const process = state.processes[index]!;
  const link = state.links[index]!;
  const owner = state.redis.owners[index];
  epoch = process.crashed ? Infinity : process.epoch;
  sequence = process.crashed ? Infinity : process.sequence;
  if (owner !== undefined) {
    epoch = Math.min(epoch, owner.epoch);
    sequence = Math.min(sequence, owner.next);
  }
  for (const request of link.requests) include(request.batch);
  for (const batch of process.unanswered) include(batch);
  for (const reply of link.replies) include(reply.batch);
  if (link.late !== undefined) include(link.late.batch);
  for (const message of link.messages) if (message.kind === 'grant') epoch = Math.min(epoch, message.epoch);
  sequence = Math.max(0, sequence - 1);
}

function putProcess(process: Process, resends: boolean): void {
  put(2 * Number(process.restores) + Number(process.listsNext));
  put(process.statedAge);
  put(process.epoch - epoch);
  put(process.sequence - sequence);
  put(process.age);
  put(process.seenVersion - version);
  putCommands(process.outbox);
  put(process.unanswered.length);
  for (const batch of process.unanswered)
    if (resends) putBatch(batch);
    else put(Number(batch.commands.some(({ kind }) => kind === 'renew')));
  putLeases(process.lingering);
  const { permission } = process;
  if (permission === undefined) return put(0);
  put(1 + Number(permission.linger));
  putNumbers(permission.row);
  put(permission.age);
  put(permission.version - version);
}

function putLink({ requests, late, replies, messages }: Link): void {
  put(requests.length);
  for (const request of requests) putRequest(request);
  put(Number(late === undefined));
  if (late !== undefined) putRequest(late);
  put(replies.length);
  for (const reply of replies) {
    put(OUTCOMES[reply.outcome]);
    put(reply.age);
    put(reply.batch.epoch - epoch);
    put(reply.batch.sequence - sequence);
    put(reply.version - version);
    putLeases(reply.grants);
    putNumbers(reply.lost);
    putNumbers(reply.row);
    put(Number(reply.linger));
    put(reply.life);
  }
  put(messages.length);
  for (const message of messages) {
    if (message.kind === 'withdraw') {
      put(0);
      put(message.version - version);
    } else {
      put(1);
      put(message.epoch - epoch);
      put(message.call);
      put(message.slot);
    }
  }
}

/** Writes the canonical form into `bytes`. `resends`: whether an unanswered batch may be sent again. */
function write(state: State, resends: boolean): void {
  const { redis, processes, links, calls, budget } = state;
  length = 0;
  version = lowestVersion(state);
  put(redis.limit);
  put(redis.loweredAge);
  put(redis.pausedAge);
  put(redis.version - version);
  put(redis.queue.length);
  for (const { call, age, isLate } of redis.queue) {
    put(call);
    put(age + 4 * Number(isLate));
  }
  putNumbers(redis.slots);
  put(redis.life);
  put(redis.lostAge);
  put(redis.silence);
  put(redis.lag);
  put(redis.grace);
  for (const { status, lease, slot, ticket, isOld } of calls) {
    // Only the order of tickets matters.
    put(calls.reduce((rank, other) => rank + Number(ticket > 0 && other.ticket < ticket), Number(isOld) * 16));
    put(STATUSES[status]);
    put(lease);
    put(slot);
  }
  for (let index = 0; index < processes.length; index++) {
    const process = processes[index]!;
    const owner = redis.owners[index];
    setOrigins(state, index);
    if (process.crashed) put(0);
    else putProcess(process, resends);
    if (owner === undefined) put(0);
    else {
      put(1 + Number(owner.lingers));
      put(owner.epoch - epoch);
      put(owner.next - sequence);
      put(owner.age);
    }
    putLink(links[index]!);
  }
  put(budget.crash);
  put(budget.cancel);
  put(budget.loseMessage);
  put(budget.bounce);
  put(budget.break);
  put(budget.pause);
  put(budget.ownPause);
  put(budget.lower);
  put(budget.lose);
  put(budget.forward);
  put(budget.back);
  put(budget.slow);
  put(budget.total);
}

/** The indices of states by the hashes of their canonical forms. */
export class StateIndex {
  #size = 0;
  /** Two words of hash for each entry, and the index of its state plus 1; 0 for an empty entry. */
  #entries = new Uint32Array(3 * 2 ** 12);

  constructor(readonly resends: boolean) {}

  get size(): number {
    return this.#size;
  }

  /** The index of an equal state that was added before; otherwise the state is added as the next one. */
  add(state: State): number {
    write(state, this.resends);
    let [first, second] = [0x811c9dc5, 0x9747b28c];
    for (let at = 0; at < length; at++) {
      const value = bytes[at]!;
      first = Math.imul(first ^ value, 0x01000193);
      first ^= first >>> 15;
      second = Math.imul(second ^ value, 0x85ebca6b);
      second ^= second >>> 13;
    }
    if (3 * 2 * (this.#size + 1) > this.#entries.length) this.#grow();
    const at = this.#find(this.#entries, first >>> 0, second >>> 0);
    if (this.#entries[at + 2] === 0) {
      this.#entries[at] = first;
      this.#entries[at + 1] = second;
      this.#entries[at + 2] = ++this.#size;
    }
    return this.#entries[at + 2]! - 1;
  }

  #find(entries: Uint32Array, first: number, second: number): number {
    const count = entries.length / 3;
    let entry = (first ^ (second << 7)) & (count - 1);
    while (entries[3 * entry + 2] !== 0 && (entries[3 * entry] !== first || entries[3 * entry + 1] !== second))
      entry = (entry + 1) & (count - 1);
    return 3 * entry;
  }

  #grow(): void {
    const before = this.#entries;
    const entries = new Uint32Array(before.length * 2);
    for (let at = 0; at < before.length; at += 3) {
      if (before[at + 2] === 0) continue;
      const to = this.#find(entries, before[at]!, before[at + 1]!);
      entries.set(before.subarray(at, at + 3), to);
    }
    this.#entries = entries;
  }
}
