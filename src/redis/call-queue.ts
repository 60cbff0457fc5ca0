/**
 * The calls on one connection, or on one node of a cluster. A limited number of calls is in flight, enough to
 * keep Redis busy. The other calls wait in a queue. The timeout of a call starts when the call is sent: otherwise a
 * burst of calls would time out while Redis works well (FAULTS 67).
 */
import { DeadlineWatch, Timed } from './deadline-watch.js';
import type { Driver } from './drivers/driver.js';
import { isReply, messageOf } from './errors.js';
import type { Outages } from './outages.js';
import type { Script } from './script.js';
import type { SteadyClock } from './steady-clock.js';

/** The largest number of calls in flight. */
const IN_FLIGHT = 256;
/** After this many sent calls, the queue removes them from the start of its array. Each removal copies the array. */
const CUT_AT = 1_024;

/** A call of a script. */
export interface ScriptCall {
  readonly script: Script;
  /** The first key identifies the throttle. */
  readonly keys: string[];
  readonly args: string[];
  readonly clock: SteadyClock;
  /** Seconds without a reply after which the call is rejected. They count from the sending. */
  readonly timeout: number;
  /** Called if the reply arrives after the timeout: Redis is back. */
  readonly onLateReply: (reply: unknown) => void;
}

export class CallQueue {
  readonly #driver: Driver;
  readonly #outages: Outages;
  /** The name of the connection among the outages. */
  readonly #name: string;
  readonly #onReply: (key: string) => void;
  #waiting: Call[] = [];
  /** The index of the first call in `#waiting` that is not sent. */
  #next = 0;
  #inFlight = 0;
  /** The number of replies until now, errors of Redis included. */
  #replies = 0;
  /** The preparation or connection under way, before which no call can be sent. */
  #opening: object | undefined;
  /** One watch for each clock of the users. */
  readonly #watches = new WeakMap<object, DeadlineWatch>();

  constructor(driver: Driver, outages: Outages, name: string, onReply: (key: string) => void) {
    this.#driver = driver;
    this.#outages = outages;
    this.#name = name;
    this.#onReply = onReply;
  }

  call(request: ScriptCall): Promise<unknown> {
    const promise = new Promise(captureFunctions);
    const call = new Call(this, request, resolveLast, rejectLast);
    if (this.#next === this.#waiting.length && this.#canSend(call)) this.#send(call);
    else this.#waiting.push(call);
    return promise;
  }

  /** Whether `call` can be sent now. Otherwise the queue goes on when there is room, or when the driver is ready. */
  #canSend({ request: { script, clock, timeout } }: Call): boolean {
    if (this.#inFlight >= IN_FLIGHT || this.#opening !== undefined) return false;
    try {
      const preparing = this.#driver.prepare?.(script);
      if (preparing !== undefined) {
        void this.#open(preparing);
        return false;
      }
      const connecting = this.#driver.connect?.();
      if (connecting === undefined) return true;
      void this.#open(connecting, this.#watch(clock), timeout);
    } catch (error) {
      void this.#open(Promise.reject(error));
    }
    return false;
  }

  /** Waits until the driver is ready. The timeout of a connection starts here. */
  async #open(promise: Promise<unknown>, watch?: DeadlineWatch, timeout = 0): Promise<void> {
    const opening = (this.#opening = new Opening(timeout, () => {
      this.#opening = undefined;
      this.#driver.reconnect?.();
      this.#rejectWaiting(new Error(`no connection within ${timeout} s`));
    }));
    watch?.add(opening);
    try {
      await promise;
      if (this.#opening !== opening) return;
      this.#opening = undefined;
    } catch (error) {
      if (this.#opening !== opening) return;
      this.#opening = undefined;
      this.#rejectWaiting(error);
    }
    watch?.delete(opening);
    this.#drain();
  }

  #drain(): void {
    for (;;) {
      const call = this.#waiting[this.#next];
      if (call === undefined || !this.#canSend(call)) return;
      this.#next++;
      if (this.#next === this.#waiting.length || this.#next === CUT_AT) {
        this.#waiting = this.#waiting.slice(this.#next);
        this.#next = 0;
      }
      this.#send(call);
    }
  }

  /** The connection fails, so no waiting call can succeed. */
  #rejectWaiting(error: unknown): void {
    const calls = this.#waiting.slice(this.#next);
    this.#waiting = [];
    this.#next = 0;
    const [first] = calls;
    if (first !== undefined) this.#outages.begin(this.#name, first.request.clock.now());
    for (const { reject } of calls) reject(error);
  }

  #watch(clock: SteadyClock): DeadlineWatch {
    const known = this.#watches.get(clock.source);
    if (known !== undefined) return known;
    const watch = new DeadlineWatch(clock);
    this.#watches.set(clock.source, watch);
    return watch;
  }

  #send(call: Call): void {
    call.repliesBefore = this.#replies;
    call.watch = this.#watch(call.request.clock);
    call.watch.add(call);
    this.#inFlight++;
    this.#run(call);
  }

  #run(call: Call): void {
    const { script, keys, args } = call.request;
    try {
      const reply = this.#driver.run(script, keys, args, call.inFull);
      // A custom client may return a plain value, or a thenable that settles twice.
      Promise.resolve(reply).then(call.onReply, call.onError);
    } catch (error) {
      this.failed(call, error);
    }
  }

  /** Ends a call in flight. Returns `false` if its timeout has ended it before. */
  #end(call: Call): boolean {
    if (!(call.watch as DeadlineWatch).delete(call)) return false;
    this.#inFlight--;
    return true;
  }

  #noteReply(key: string): void {
    this.#replies++;
    this.#outages.end(this.#name);
    this.#outages.end(key);
    this.#onReply(key);
  }

  replied(call: Call, reply: unknown): void {
    this.#noteReply(call.request.keys[0] as string);
    if (this.#end(call)) call.resolve(reply);
    else call.request.onLateReply(reply);
    this.#drain();
  }

  failed(call: Call, error: unknown): void {
    const key = call.request.keys[0] as string;
    const isError = isReply(error);
    if (isError) this.#noteReply(key);
    if (!call.inFull && isError && messageOf(error).startsWith('NOSCRIPT')) {
      call.inFull = true;
      // If the call is overdue, its caller has got an error: Redis must not run it now.
      if (call.watch?.has(call) === true) return this.#run(call);
    }
    if (!this.#end(call)) return this.#drain();
    // WRONGTYPE is the fault of the key, not of Redis.
    if (!isError) this.#beginOutage(call);
    else if (!messageOf(error).includes('WRONGTYPE')) this.#outages.begin(key, call.request.clock.now());
    call.reject(error);
    this.#drain();
  }

  overdue(call: Call): void {
    this.#inFlight--;
    const error = new Error(`no reply within ${call.timeout} s`);
    const wholeConnection = this.#beginOutage(call);
    call.reject(error);
    if (wholeConnection) {
      this.#driver.reconnect?.();
      this.#rejectWaiting(error);
    } else this.#drain();
  }

  /** A call has failed. If no other call has succeeded meanwhile, the whole connection fails: returns `true`. */
  #beginOutage(call: Call): boolean {
    const wholeConnection = call.repliesBefore === this.#replies;
    this.#outages.begin(wholeConnection ? this.#name : (call.request.keys[0] as string), call.request.clock.now());
    return wholeConnection;
  }
}

/** The functions of the latest promise. All promises share one executor, which saves a closure for each. */
let resolveLast: (value: unknown) => void;
let rejectLast: (reason: unknown) => void;
const captureFunctions = (resolve: (value: unknown) => void, reject: (reason: unknown) => void): void => {
  resolveLast = resolve;
  rejectLast = reject;
};

/** One call of a script, from its arrival to its end. */
class Call extends Timed {
  inFull = false;
  /** The number of replies on the connection before this call was sent. */
  repliesBefore = 0;
  watch: DeadlineWatch | undefined;
  readonly onReply: (reply: unknown) => void;
  readonly onError: (error: unknown) => void;

  constructor(
    readonly queue: CallQueue,
    readonly request: ScriptCall,
    readonly resolve: (value: unknown) => void,
    readonly reject: (reason: unknown) => void,
  ) {
    super(request.timeout);
    this.onReply = (reply) => this.queue.replied(this, reply);
    this.onError = (error) => this.queue.failed(this, error);
  }

  onOverdue(): void {
    this.queue.overdue(this);
  }
}

class Opening extends Timed {
  constructor(
    timeout: number,
    readonly onOverdue: () => void,
  ) {
    super(timeout);
  }
}
