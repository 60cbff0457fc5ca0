/** The initial state of a run of the model, and what may happen in the run. */
import { newProcess } from './process.js';
import type { Rules } from './rules.js';
import type { Budget, ProcessId, State } from './state.js';

export interface Scenario {
  readonly rules: Rules;
  /** How many of the first calls hold a slot at the start. */
  readonly holding: number;
  readonly concurrency: number;
  readonly budget: Partial<Budget>;
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
      life: 0,
      lostAge: 0,
      silence: 0,
      lag: 0,
      grace: 0,
    },
    processes: [0, 1].map((process) => newProcess(hasLease(process) ? 1 : 0)),
    links: [0, 1].map(() => ({ requests: [], replies: [], messages: [], late: undefined })),
    calls: owners.map((_, call) =>
      call < holding
        ? { status: 'holding', lease: call, slot: call, ticket: 0, isOld: false }
        : { status: 'idle', lease: -1, slot: -1, ticket: 0, isOld: false },
    ),
    budget: {
      crash: 0,
      cancel: 0,
      loseMessage: 0,
      bounce: 0,
      break: 0,
      pause: 0,
      ownPause: 0,
      lower: 0,
      lose: 0,
      forward: 0,
      back: 0,
      slow: 0,
      total: 0,
      ...budget,
    },
  };
}
