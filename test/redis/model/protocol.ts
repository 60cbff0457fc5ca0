/** placeholder */
import { type Note, applyBatch, redisTick, withdrawAll } from './redis.js';
import * as processes from './process.js';
import { BOUND, type Rules, SAFE, TTL } from './rules.js';
import { copyState, type Budget, type CallId, type ProcessId, type Request, type State } from './state.js';

export interface Scenario {
  readonly rules: Rules;
  /** How many of the first calls hold a slot at the start. */
  readonly holding: number;
  readonly concurrency: number;
  readonly budget: Partial<Budget>;
}

export type ActionKind =
  | 'Redis applies a batch of'
  | 'Redis applies a late duplicate of'
  | 'a reply reaches'
  | 'a message reaches'
  | 'a holder releases in'
  | 'time passes'
  | 'time passes before a message arrives'
  | 'a call begins in'
  | 'a waiter is cancelled in'
  | 'a message is lost on its way to'
  | 'Redis refuses unread a batch of'
  | 'the connection breaks, and all in flight is lost, of'
  | 'the connection breaks, and a batch stays in flight, of'
  | 'a crash ends'
  | 'an administrator pauses'
  | 'an administrator lowers the limit';

export interface Action {
  readonly kind: ActionKind;
  readonly process: ProcessId;
  readonly call: CallId;
}

export interface Step {
  readonly state: State;
  readonly notes: readonly Note[];
}

export function initialState({ rules, holding, concurrency, budget }: Scenario): State {
  const { owners } = rules;
  const slots = Array.from({ length: concurrency }, (_, slot) => (slot < holding ? slot : -1));
  const hasLease = (process: ProcessId): boolean => owners.slice(0, holding).includes(process);
  return {
    redis: {
      owners: [0, 1].map((process) => (hasLease(process) ? { epoch: 0, next: 1, age: 0, lingers: false } : undefined)),
      queue: [],
      slots,
      limit: concurrency,
      loweredAge: 0,
      pausedAge: -1,
      version: 0,
    },
    processes: [0, 1].map((process) => ({
      crashed: false,
      epoch: 0,
      sequence: hasLease(process) ? 1 : 0,
      age: 0,
      outbox: [],
      unanswered: [],
      permission: undefined,
      seenVersion: 0,
      lingering: [],
    })),
    links: [0, 1].map(() => ({ requests: [], replies: [], messages: [], late: undefined })),
    calls: owners.map((_, call) =>
      call < holding ? { status: 'holding', lease: call, slot: call } : { status: 'idle', lease: -1, slot: -1 },
    ),
    budget: { crash: 0, cancel: 0, loseMessage: 0, bounce: 0, break: 0, pause: 0, lower: 0, slow: 0, total: 0, ...budget },
  };
}

/** All that may happen next. The first of them, in this order, is what happens while no fault and no new call comes. */
export function actionsOf(state: State, rules: Rules): Action[] {
  const actions: Action[] = [];
  const { budget } = state;
  const add = (kind: ActionKind, process: ProcessId, call: CallId = -1): void => {
    actions.push({ kind, process, call });
  };
  for (const [process, link] of state.links.entries()) {
    if (link.requests.length > 0) add('Redis applies a batch of', process);
    if (link.late !== undefined) add('Redis applies a late duplicate of', process);
    if (link.replies.length > 0) add('a reply reaches', process);
    if (link.messages.length > 0) add('a message reaches', process);
  }
  for (const [call, { status }] of state.calls.entries())
    if (status === 'holding') add('a holder releases in', rules.owners[call]!, call);
  if (isStill(state)) add('time passes', -1);
  else if (budget.slow > 0) add('time passes before a message arrives', -1);
  for (const [process, { crashed, unanswered }] of state.processes.entries()) {
    if (crashed) continue;
    const link = state.links[process]!;
    const next = state.calls.findIndex(({ status }, call) => status === 'idle' && rules.owners[call] === process);
    if (next >= 0) add('a call begins in', process, next);
    if (budget.cancel > 0)
      for (const call of processes.waitersOf(state, process, rules)) add('a waiter is cancelled in', process, call);
    if (budget.total === 0) continue;
    if (budget.loseMessage > 0 && link.messages.length > 0) add('a message is lost on its way to', process);
    if (budget.bounce > 0 && link.requests.length > 0) add('Redis refuses unread a batch of', process);
    if (budget.break > 0 && unanswered.length > 0) {
      add('the connection breaks, and all in flight is lost, of', process);
      if (link.requests.length > 0) add('the connection breaks, and a batch stays in flight, of', process);
    }
    if (budget.crash > 0) add('a crash ends', process);
  }
  if (budget.total > 0 && budget.pause > 0) add('an administrator pauses', -1);
  if (budget.total > 0 && budget.lower > 0) add('an administrator lowers the limit', -1);
  return actions;
}

export function take(before: State, { kind, process, call }: Action, rules: Rules): Step {
  const state = copyState(before);
  const notes: Note[] = [];
  const { budget, redis } = state;
  const self = state.processes[process]!;
  const link = state.links[process]!;
  if (FAULT_KINDS.has(kind)) budget.total--;
  switch (kind) {
    case 'Redis applies a batch of': {
      const [request, ...rest] = link.requests as [Request];
      link.requests = rest;
      const reply = applyBatch(state, process, request, rules, notes);
      if (!self.crashed) link.replies = [...link.replies, reply];
      break;
    }
    case 'Redis applies a late duplicate of': {
      const { late } = link;
      link.late = undefined;
      applyBatch(state, process, late!, rules, notes);
      break;
    }
    case 'a reply reaches': {
      const [reply, ...rest] = link.replies;
      link.replies = rest;
      processes.receiveReply(state, process, reply!, rules);
      break;
    }
    case 'a message reaches': {
      const [message, ...rest] = link.messages;
      link.messages = rest;
      processes.receiveMessage(state, process, message!, rules);
      break;
    }
    case 'a holder releases in':
      processes.release(state, process, call, rules, notes);
      break;
    case 'time passes':
      tick(state, rules);
      break;
    case 'time passes before a message arrives':
      budget.slow--;
      tick(state, rules);
      break;
    case 'a call begins in':
      processes.acquire(state, process, call, rules, notes);
      break;
    case 'a waiter is cancelled in':
      budget.cancel--;
      processes.cancel(state, process, call);
      break;
    case 'a message is lost on its way to':
      budget.loseMessage--;
      link.messages = link.messages.slice(1);
      break;
    case 'Redis refuses unread a batch of': {
      budget.bounce--;
      const [request, ...rest] = link.requests as [Request];
      link.requests = rest;
      const { version } = redis;
      const { batch, age } = request;
      link.replies = [...link.replies, { outcome: 'refused', batch, age, version, grants: [], lost: [], row: [], linger: false }];
      break;
    }
    case 'the connection breaks, and all in flight is lost, of':
    case 'the connection breaks, and a batch stays in flight, of':
      budget.break--;
      if (kind.includes('stays')) link.late = link.requests[0];
      link.replies = [];
      link.requests = self.unanswered.map((batch) => ({ batch, age: 0 }));
      break;
    case 'a crash ends':
      budget.crash--;
      crash(state, process, rules);
      break;
    case 'an administrator pauses':
      budget.pause--;
      redis.pausedAge = 0;
      withdrawAll(state);
      break;
    case 'an administrator lowers the limit':
      budget.lower--;
      redis.limit--;
      redis.loweredAge = 0;
      withdrawAll(state);
      break;
  }
  for (let index = 0; index < state.processes.length; index++)
    if (!state.processes[index]!.crashed) processes.send(state, index, rules);
  return { state, notes };
}

/** Nothing is on its way: a network without faults is faster than a tick. */
function isStill(state: State): boolean {
  return state.links.every(
    ({ requests, replies, messages, late }) =>
      requests.length + replies.length + messages.length === 0 && late === undefined,
  );
}

const FAULT_KINDS: ReadonlySet<ActionKind> = new Set<ActionKind>([
  'a message is lost on its way to',
  'Redis refuses unread a batch of',
  'the connection breaks, and all in flight is lost, of',
  'the connection breaks, and a batch stays in flight, of',
  'a crash ends',
  'an administrator pauses',
  'an administrator lowers the limit',
]);

function tick(state: State, rules: Rules): void {
  redisTick(state);
  const { redis } = state;
  if (rules.linger) redis.queue = redis.queue.map(({ call, age }) => ({ call, age: Math.min(BOUND, age + 1) }));
  for (const [process, self] of state.processes.entries()) {
    if (!self.crashed) processes.processTick(state, process, rules);
    const link = state.links[process]!;
    link.requests = link.requests.map(older);
    link.replies = link.replies.map(older);
    // The server reads the rest of a broken connection within a ttl.
    link.late = link.late !== undefined && link.late.age + 1 < TTL ? older(link.late) : undefined;
  }
}

function older<T extends { readonly age: number }>(sent: T): T {
  return { ...sent, age: Math.min(SAFE, sent.age + 1) };
}

function crash(state: State, process: ProcessId, rules: Rules): void {
  const { requests, late } = state.links[process]!;
  state.links[process] = { requests, replies: [], messages: [], late };
  state.processes[process] = {
    crashed: true,
    epoch: 0,
    sequence: 0,
    age: 0,
    outbox: [],
    unanswered: [],
    permission: undefined,
    seenVersion: 0,
    lingering: [],
  };
  for (const [call, owner] of rules.owners.entries())
    if (owner === process) state.calls[call] = { status: 'ended', lease: -1, slot: -1 };
}
