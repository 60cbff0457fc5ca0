/** Breadth-first search over all states of a scenario, and the shortest trace of what it finds. */
import { type Action, actionsOf, take } from './protocol.js';
import { initialState, type Scenario } from './scenario.js';
import { isSettled, violationOfState, violationOfStep } from './properties.js';
import { StateIndex } from './canonical.js';
import type { State } from './state.js';

export interface Finding {
  readonly violation: string;
  readonly trace: readonly string[];
}

export interface Exploration {
  readonly states: number;
  readonly transitions: number;
  /** Whether the search ended for lack of unseen states. */
  readonly complete: boolean;
  readonly finding: Finding | undefined;
}

export function describeAction({ kind, process, call }: Action): string {
  return `${kind}${process < 0 ? '' : ` process ${process}`}${call < 0 ? '' : ` (call ${call})`}`;
}

export function explore(scenario: Scenario, bound: number): Exploration {
  const { rules } = scenario;
  const { bounce = 0, break: breaks = 0 } = scenario.budget;
  const indices = new StateIndex(bounce + breaks > 0);
  const parents: number[] = [];
  const actions: number[] = [];
  /** The state that follows when neither a fault nor a new call comes; the state itself once all is settled. */
  const successors: number[] = [];
  let frontier: State[] = [initialState(scenario)];
  let transitions = 0;
  indices.add(frontier[0]!);
  parents.push(-1);
  actions.push(-1);
  const traceTo = (index: number, ...more: string[]): string[] => {
    const path: number[] = [];
    for (let at = index; at > 0; at = parents[at]!) path.unshift(actions[at]!);
    let state = initialState(scenario);
    return [
      ...path.map((ordinal) => {
        const action = actionsOf(state, rules)[ordinal]!;
        ({ state } = take(state, action, rules));
        return describeAction(action);
      }),
      ...more,
    ];
  };
  const end = (complete: boolean, finding?: Finding): Exploration => ({
    states: parents.length,
    transitions,
    complete,
    finding,
  });
  for (let first = 0; frontier.length > 0;) {
    const next: State[] = [];
    for (const [offset, state] of frontier.entries()) {
      const index = first + offset;
      const settled = isSettled(state, rules);
      if (settled) successors[index] = index;
      for (const [ordinal, action] of actionsOf(state, rules).entries()) {
        const step = take(state, action, rules);
        transitions++;
        const target = indices.add(step.state);
        const stepViolation = violationOfStep(state, step.notes, rules);
        if (stepViolation !== undefined)
          return end(false, { violation: stepViolation, trace: traceTo(index, describeAction(action)) });
        if (target === parents.length) {
          parents.push(index);
          actions.push(ordinal);
          next.push(step.state);
          const violation = violationOfState(step.state, rules);
          if (violation !== undefined) return end(false, { violation, trace: traceTo(target) });
          if (target >= bound) return end(false);
        }
        // A state that leads to itself and is not settled never settles.
        if (ordinal === 0 && !settled) successors[index] = target === index ? -1 : target;
      }
    }
    first += frontier.length;
    frontier = next;
  }
  const stuck = findStuck(successors);
  if (stuck === undefined) return end(true);
  return end(true, { violation: 'a waiter waits, or a slot is kept, for ever', trace: traceTo(stuck) });
}

/** The first state from which the successors never reach a state that is its own successor by being settled. */
function findStuck(successors: readonly number[]): number | undefined {
  const UNKNOWN = 0;
  const OPEN = 1;
  const SETTLES = 2;
  const STUCK = 3;
  const marks = new Uint8Array(successors.length);
  for (let start = 0; start < successors.length; start++) {
    const path: number[] = [];
    let at = start;
    while (marks[at] === UNKNOWN && successors[at] !== at) {
      marks[at] = OPEN;
      path.push(at);
      at = successors[at]!;
    }
    if (successors[at] === at && marks[at] === UNKNOWN) marks[at] = SETTLES;
    const mark = marks[at] === SETTLES ? SETTLES : STUCK;
    for (const index of path) marks[index] = mark;
    if (mark === STUCK) return start;
  }
  return undefined;
}
