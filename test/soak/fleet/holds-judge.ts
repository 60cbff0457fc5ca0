/**
 * Judges the reports of the processes: never more holders than the limit, no slot twice at a time, every call settles,
 * and no process starves.
 */
import { callOf, type Report } from './reports.js';

/** The reports of one process, from its start to its end. */
export interface Life {
  readonly name: string;
  readonly reports: readonly Report[];
  readonly wasKilled: boolean;
}

/** What a judge needs to know of a history. Instants are milliseconds of the monotonic clock. */
export interface HoldsTerms {
  readonly limit: number;
  /** From this instant on there are no faults, and none has an effect any more. */
  readonly calmFrom: number;
  /** The longest waits that are no starvation, before and after `calmFrom`, in milliseconds. */
  readonly longestWait: number;
  readonly longestCalmWait: number;
  /** The records of all grants of Redis. */
  readonly items: ReadonlySet<string>;
}

export interface HoldsVerdict {
  readonly violations: readonly string[];
  readonly held: number;
  readonly heldInCalm: number;
  readonly lost: number;
  readonly failed: number;
  readonly aborted: number;
  /** In milliseconds. */
  readonly longestWait: number;
  readonly longestCalmWait: number;
}

interface Hold {
  readonly call: number;
  readonly slot: number;
  readonly from: number;
  until: number;
}

/** The calls that were served by the grant of another call. The cost in the record of a grant names its call. */
export function servedByProcess(lives: readonly Life[]): Set<number> {
  const calls = new Set<number>();
  for (const { reports } of lives)
    for (const report of reports)
      if (report.kind === 'held' && callOf(report.item.split(' ')[2]) !== report.call) calls.add(report.call);
  return calls;
}

export function judgeHolds(lives: readonly Life[], terms: HoldsTerms): HoldsVerdict {
  const judge = new HoldsJudge(terms);
  for (const life of lives) judge.judgeLife(life);
  judge.judgeSlots();
  return judge.verdict();
}

class HoldsJudge {
  readonly #terms: HoldsTerms;
  readonly #violations: string[] = [];
  readonly #holds: Hold[] = [];
  readonly #counts = { heldInCalm: 0, lost: 0, failed: 0, aborted: 0, longestWait: 0, longestCalmWait: 0 };

  constructor(terms: HoldsTerms) {
    this.#terms = terms;
  }

  verdict(): HoldsVerdict {
    return { violations: this.#violations, held: this.#holds.length, ...this.#counts };
  }

  judgeLife({ name, reports, wasKilled }: Life): void {
    const { items } = this.#terms;
    const called = new Map<number, number>();
    const open = new Map<number, Hold>();
    const end = reports.at(-1)?.at ?? 0;
    for (const report of reports) {
      const { kind, call, at } = report;
      const since = called.get(call) ?? NaN;
      if (kind === 'called') called.set(call, at);
      else if (kind === 'held') {
        called.delete(call);
        this.#waited(name, call, since, at);
        if (!items.has(report.item)) this.#fail(`${name}: call ${call} holds a grant that Redis has not given`);
        const hold = { call, slot: report.slot, from: at, until: at };
        open.set(call, hold);
        this.#holds.push(hold);
      } else {
        called.delete(call);
        const hold = open.get(call);
        open.delete(call);
        if (hold !== undefined) hold.until = at;
        this.#ended(name, report, since);
      }
    }
    if (wasKilled) return;
    for (const [call, since] of called) this.#fail(`${name}: call ${call} of ${since} ms never settles, until ${end}`);
    for (const call of open.keys()) this.#fail(`${name}: the hold of call ${call} never ends`);
  }

  #ended(name: string, report: Report, since: number): void {
    const isCalm = report.at >= this.#terms.calmFrom;
    if (report.kind === 'aborted') this.#counts.aborted++;
    else if (report.kind === 'lost') {
      this.#counts.lost++;
      if (isCalm) this.#fail(`${name}: the lease of call ${report.call} was lost without a fault`);
    } else if (report.kind === 'failed') {
      this.#counts.failed++;
      const isBackend = report.error.startsWith('ThrottleBackendError');
      if (isCalm || !isBackend)
        this.#fail(`${name}: call ${report.call} was rejected after ${report.at - since} ms: ${report.error}`);
    }
  }

  #waited(name: string, call: number, since: number, at: number): void {
    const { calmFrom, longestWait, longestCalmWait } = this.#terms;
    const isCalm = since >= calmFrom;
    const waited = at - since;
    if (isCalm) {
      this.#counts.heldInCalm++;
      this.#counts.longestCalmWait = Math.max(this.#counts.longestCalmWait, waited);
    } else this.#counts.longestWait = Math.max(this.#counts.longestWait, waited);
    if (waited > (isCalm ? longestCalmWait : longestWait))
      this.#fail(`${name}: call ${call} has waited ${waited.toFixed(0)} ms${isCalm ? ' without a fault' : ''}`);
  }

  /** Slots without repetition, within the range of slots, are never more than the limit. */
  judgeSlots(): void {
    const edges = this.#holds.flatMap((hold) => [
      { at: hold.from, hold, begins: true },
      { at: hold.until, hold, begins: false },
    ]);
    edges.sort((one, other) => one.at - other.at || Number(other.begins) - Number(one.begins));
    const taken = new Map<number, Hold>();
    for (const { hold, begins } of edges) {
      const other = taken.get(hold.slot);
      if (!begins) {
        if (other === hold) taken.delete(hold.slot);
        continue;
      }
      // A short hold, or one whose process was killed, has one instant.
      if (other !== undefined && other.until > hold.from)
        this.#fail(`calls ${other.call} and ${hold.call} hold slot ${hold.slot} at the same time`);
      taken.set(hold.slot, hold);
      if (!(hold.slot >= 1 && hold.slot <= this.#terms.limit)) this.#fail(`call ${hold.call} holds slot ${hold.slot}`);
    }
  }

  #fail(what: string): void {
    if (this.#violations.length < 10) this.#violations.push(what);
  }
}
