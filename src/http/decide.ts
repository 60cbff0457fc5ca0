/**
 * The decision that all adapters share: may this request run, and if not, what is its client told? An adapter shows
 * it the request, carries out the verdict, and knows when the response is over.
 *
 * A refusal is the gate's word that the client, or everyone, has to wait. Whatever else goes wrong is an error, and
 * belongs to the framework's error handler: nobody is told to come back later because a backend is down.
 */
import { checkCost, checkFunction, checkInteger, checkNumber, checkObject, invalid, ServerBusyError, ThrottleError, ThrottleTimeoutError } from '../errors.js';
import type { Gate, KeyedGate } from '../gate.js';
import { writeRateLimit, writeRetryAfter } from '../web/ratelimit-headers.js';
import type { Permit } from '../permit.js';
import { finder, type Key, type View } from './key.js';
import { acquireKey } from './key-count.js';

/** A request that was turned away. */
export interface Refusal {
  /** The HTTP status: `status` of the options for a limit of the client's own, 503 where the server is busy. */
  readonly status: number;
  /** Whole seconds, >= 1, after which another try may succeed: what `Retry-After` says. */
  readonly retryAfter: number;
  /** Whose limit it was. Absent where one gate serves everyone. */
  readonly key?: string;
  /** The refusal of the gate. */
  readonly error: ThrottleError;
}

/** What `onLimited` may return; `undefined` stands for the default body. */
export type Answer = Response | string | object | null | undefined | void;

/** Settings of every adapter, beside the gate. `A` is what the framework hands to a handler. */
export interface CommonOptions<A extends unknown[]> {
  /** Tokens for a request, or a function that says how many: finite, >= 0. Default 1. */
  cost?: number | ((...args: A) => number | PromiseLike<number>) | undefined;
  /** Seconds that a request may queue, >= 0; `0` refuses at once. Default: the gate's own `timeout`, else 0. */
  wait?: number | undefined;
  /** `false` only watches: a request over the limit, or without a key, runs without a permit. Default `true`. */
  block?: boolean | undefined;
  /** The status for a client over its limit: an integer from 400 to 599. Default 429. */
  status?: number | undefined;
  /**
   * Answers a refusal. It may return a `Response`, a string (sent as plain text), any other object (sent as JSON), or
   * respond by the framework's own means before it is done (what goes on after that has to be awaited); with
   * `undefined`, the default is sent. `Retry-After` and `RateLimit` are set before, and may be set anew. If it throws,
   * the framework's log is told, and the default is sent. It is not called for a request without a key, nor with
   * `block: false`.
   */
  onLimited?: ((refusal: Refusal, ...args: A) => Answer | PromiseLike<Answer>) | undefined;
  /** Whether to send `RateLimit` and `RateLimit-Policy`, where the gate shows its numbers. Default `true`. */
  headers?: boolean | undefined;
  /** Which requests pass without being counted. */
  skip?: ((...args: A) => boolean | PromiseLike<boolean>) | undefined;
  /**
   * Whether requests run without a permit while the gate itself fails. Default `false`: the framework's error
   * handler gets the failure. A `RangeError` (a cost that is never granted) always goes there.
   */
  failOpen?: boolean | undefined;
  /** How many bits of an IPv6 address tell a client: an integer from 1 to 128. Default 56. */
  ipv6Prefix?: number | undefined;
  /** Until when a permit is held: `'response'` (the default) or, longer, `'handler'`. */
  hold?: 'response' | 'handler' | undefined;
  /** Seconds, > 0, up to 2,147,483: a permit that is still held after so long counts as leaked, and is given back. */
  ttl?: number | undefined;
}

/** One gate for everyone. */
export interface SharedGate {
  /** The gate, be it a `Throttle`, a `Resource` or the resources of a `Limiter`. */
  gate: Gate;
  /** Not beside `gate`. */
  keyed?: undefined;
  /** Not beside `gate`. */
  key?: undefined;
}

/** A gate for each key. */
export interface GatePerKey<A extends unknown[]> {
  /** Not beside `keyed`. */
  gate?: undefined;
  /** The gates, such as a `KeyedThrottle`. */
  keyed: KeyedGate;
  /** Whose limit counts: {@link Key}. */
  key: Key<A>;
}

/** What an adapter is made with: one gate for everyone, or one for each key; and {@link CommonOptions}. */
export type LimitOptions<A extends unknown[]> = CommonOptions<A> & (SharedGate | GatePerKey<A>);

/** Header fields, by name. */
export type Fields = Readonly<Record<string, string>>;

/** A response, whoever sends it. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: string | ArrayBuffer;
}

/** What becomes of a request. */
export type Verdict =
  /** It runs. `release` is there if it holds a permit, which `whenOver` gives back: that may come sooner, and more than once. */
  | { readonly runs: true; readonly fields: Fields; readonly release?: () => void }
  /** It does not. No reply: the client has gone, or `onLimited` has responded by itself. */
  | { readonly runs: false; readonly fields: Fields; readonly reply?: Reply };

/** What the decision needs of a framework. */
export interface Port<A extends unknown[]> extends View<A> {
  /** Whether the response was sent, or the client has gone. */
  over(...args: A): boolean;
  /** Calls `end` when it is: at least once, if it is not so yet. Where it can be taken back, what it returns does so. */
  whenOver(end: () => void, ...args: A): (() => void) | undefined;
  /** Prepares the response for a refusal. The function that it returns says whether somebody has responded since. */
  refusing(status: number, fields: Fields, ...args: A): () => boolean;
  /** Tells the framework's log. */
  report(error: unknown, ...args: A): void;
}

/** A keyed gate that shows the gate of a key. */
interface Peekable {
  peek?(key: string): Numbers | undefined;
}

/** The numbers that a gate may show. */
type Numbers = Partial<Record<'capacity' | 'period' | 'burst' | 'tokens' | 'concurrency' | 'active', number>> & { name?: string | undefined; estimateWait?(cost: number): number };

const NONE: Fields = {};
const GONE: Verdict = { runs: false, fields: NONE };
const UNLIMITED: Verdict = { runs: true, fields: NONE };

/** The decision for the requests of one middleware. @throws {RangeError | TypeError} An option is out of range. */
export function decider<A extends unknown[]>(options: LimitOptions<A>, port: Port<A>): (...args: A) => Promise<Verdict> {
  checkObject('options', options);
  const { gate, keyed, key, cost = 1, block = true, status = 429, onLimited = () => {}, headers = true, skip, failOpen = false, ipv6Prefix = 56, ttl } = options;
  if ((gate === undefined) === (keyed === undefined)) throw new TypeError('options need either gate or keyed');
  if (keyed !== undefined) checkKeyed('keyed', keyed);
  else if (typeof gate?.acquire !== 'function' || 'keyed' in gate) throw invalid('gate', 'a Gate, not a KeyedGate', gate);
  if ((key === undefined) !== (keyed === undefined)) throw invalid('key', 'given with keyed, and only there', key);
  const { wait = (gate as { timeout?: number } | undefined)?.timeout ?? 0 } = options;
  if (typeof cost !== 'function') checkCost(cost);
  checkNumber('wait', 'a number >= 0', wait, 0, Infinity);
  checkInteger('status', 'an integer from 400 to 599', status, 400, 599);
  checkInteger('ipv6Prefix', 'an integer from 1 to 128', ipv6Prefix, 1, 128);
  checkTtl(ttl);
  for (const [name, value] of Object.entries({ block, headers, failOpen })) if (typeof value !== 'boolean') throw invalid(name, 'a boolean', value);
  checkFunction('onLimited', onLimited);
  if (skip !== undefined) checkFunction('skip', skip);
  const find = key === undefined ? undefined : finder(key, port, ipv6Prefix);

  return async function decide(...args) {
    if (skip !== undefined && (await skip(...args))) return UNLIMITED;
    const found = find === undefined ? undefined : await find(...args);
    if (found !== undefined && found.key === undefined) {
      if (!block) return UNLIMITED;
      return { runs: false, fields: NONE, reply: problem(400, 'Bad Request', `The request has no ${found.missing}.`) };
    }
    const whose = found?.key as string;
    const units = typeof cost === 'function' ? await cost(...args) : cost;
    checkCost(units);
    // The functions of the options may have taken their time.
    if (port.over(...args)) return GONE;
    const left = wait > 0 ? new AbortController() : undefined;
    let end = (): void => left?.abort('the client has gone');
    // Once for a request, whatever the end means by then: there are frameworks with many listeners of their own.
    let forget = left && port.whenOver(() => end(), ...args);
    const how = { timeout: wait, signal: left?.signal };
    let permit: Permit;
    try {
      permit = await (keyed === undefined ? gate.acquire(units, how) : acquireKey(keyed, whose, units, how));
    } catch (error) {
      // Whoever waits no more need not leave: an abort costs more than all the rest.
      end = () => {};
      forget?.();
      if (port.over(...args)) return GONE;
      if (error instanceof ThrottleError) return refuse(error, found?.key, args);
      if (failOpen && !(error instanceof RangeError)) return UNLIMITED;
      throw error;
    }
    if (port.over(...args)) {
      // The work never happened.
      permit.refund();
      permit.release();
      return GONE;
    }
    const release = holding(permit, ttl);
    end = () => {
      forget?.();
      release();
    };
    if (left === undefined) forget = port.whenOver(end, ...args);
    return { runs: true, fields: fieldsOf(whose), release: end };
  };

  /** `RateLimit` and `RateLimit-Policy`, from what the gate shows of its numbers. */
  function fieldsOf(whose: string, retryAfter?: number): Fields {
    try {
      return headers ? rateLimit((keyed === undefined ? (gate as Numbers) : (keyed as Peekable).peek?.(whose)) ?? {}, retryAfter) : NONE;
    } catch {
      // A gate of somebody else's, with something else by these names. The response matters more.
      return NONE;
    }
  }

  async function refuse(error: ThrottleError, whose: string | undefined, args: A): Promise<Verdict> {
    const wanted = writeRetryAfter(error.retryAfter ?? 1);
    const retryAfter = Number(wanted);
    const shown = fieldsOf(whose as string, retryAfter);
    if (!block) return { runs: true, fields: shown };
    const busy = error instanceof ServerBusyError || !(error instanceof ThrottleTimeoutError);
    const refusal: Refusal = { status: busy ? 503 : status, retryAfter, ...(whose !== undefined && { key: whose }), error };
    const fields = { 'Retry-After': wanted, ...shown };
    const responded = port.refusing(refusal.status, fields, ...args);
    let reply: Reply | undefined;
    try {
      const answer = await onLimited(refusal, ...args);
      // `return res.status(429).end()` returns the response, which is no body.
      if (!args.includes(answer)) reply = await replyOf(answer, refusal.status);
    } catch (failure) {
      port.report(failure, ...args);
    }
    return responded() ? { runs: false, fields } : { runs: false, fields, reply: reply ?? defaultReply(refusal) };
  }
}

/** Refuses what is no {@link KeyedGate}. */
export function checkKeyed(name: string, value: unknown): asserts value is KeyedGate {
  const keyed = value as KeyedGate | null | undefined;
  if (keyed?.keyed !== true || typeof keyed.acquire !== 'function') throw invalid(name, 'a KeyedGate', value);
}

/** Refuses what is no `ttl`: no timer is set for longer than 2^31 milliseconds. */
export function checkTtl(ttl: unknown): void {
  if (ttl !== undefined) checkNumber('ttl', 'a number > 0, up to 2147483', ttl, Number.MIN_VALUE, 2_147_483);
}

/** Gives the permit back, now or when its time is up. */
function holding(permit: Permit, ttl: number | undefined): () => void {
  if (ttl === undefined) return () => permit.release();
  const timer: unknown = setTimeout(() => permit.release(), ttl * 1000);
  // A number in browsers and their like. In Node it would keep the process alive.
  (timer as { unref?: () => void }).unref?.();
  return () => {
    clearTimeout(timer as number);
    permit.release();
  };
}

function rateLimit(gate: Numbers, retryAfter: number | undefined): Fields {
  // Whoever peeks somewhere else gets an answer too late for this response, or none.
  if (gate instanceof Promise) gate.catch(() => {});
  const { capacity = 0, period = 0, burst = capacity, tokens, concurrency = 0, active, name = 'default' } = gate;
  const rated = capacity > 0 && capacity < Infinity && period > 0 && tokens !== undefined;
  if (!rated && !(concurrency > 0 && concurrency < Infinity && active !== undefined)) return NONE;
  const remaining = rated ? tokens : concurrency - active!;
  // All of it is there again when the largest cost would fit.
  const full = rated ? (gate.estimateWait?.(burst) ?? ((burst - tokens) * period) / capacity) : undefined;
  const { policy, state } = writeRateLimit({
    name,
    limit: rated ? capacity : concurrency,
    window: rated ? period : undefined,
    // What is left is not enough for whoever is refused.
    remaining: retryAfter === undefined ? remaining : 0,
    reset: retryAfter ?? (full === Infinity ? undefined : full),
  });
  return { 'RateLimit-Policy': policy, RateLimit: state };
}

function defaultReply({ status, retryAfter, error }: Refusal): Reply {
  if (error instanceof ServerBusyError) return json(status, 'application/json', { detail: error.message });
  const title = status === 503 ? 'Service Unavailable' : 'Too Many Requests';
  return problem(status, title, `${title}: retry in ${retryAfter} s.`);
}

/** RFC 9457, section 3. */
function problem(status: number, title: string, detail: string): Reply {
  return json(status, 'application/problem+json', { type: 'about:blank', title, status, detail });
}

function json(status: number, type: string, value: object): Reply {
  return { status, headers: { 'Content-Type': type }, body: JSON.stringify(value) };
}

/** What `onLimited` returned, as it is to be sent. */
async function replyOf(answer: Answer, status: number): Promise<Reply | undefined> {
  if (answer === undefined || answer === null) return undefined;
  if (typeof answer === 'string') return { status, headers: { 'Content-Type': 'text/plain; charset=utf-8' }, body: answer };
  // Not by instanceof: there are runtimes with more than one class of that name.
  const response = answer as Partial<Response>;
  if (typeof response.arrayBuffer !== 'function' || response.headers === undefined) return json(status, 'application/json', answer);
  // That of Response.error() is 0, which nobody can send.
  checkInteger('status', 'an integer from 200 to 599', response.status, 200, 599);
  const cookies = response.headers.getSetCookie();
  const headers = { ...Object.fromEntries(response.headers), ...(cookies.length > 0 && { 'set-cookie': cookies }) };
  const body = await response.arrayBuffer();
  return { status: response.status!, headers, body: body.byteLength === 0 ? '' : body };
}
