/**
 * One attempt of a request of undici. Until the response has been judged, its events wait. Then they go to the handler of
 * the caller, or are dropped if the request is sent again.
 */
import type { Permit } from '../core/permit.js';
import { createLookup } from '../web/retry-after.js';
import { type Engine, type Outcome, pauseAfterRefusal, type Retry } from './engine.js';
import type { CountedRequest } from './learn.js';
import type { ResponseLike } from './options.js';
import type { Flight } from './pause-log.js';
import { NOT_REFUSED, readRefusal } from './refusal.js';
import type { UndiciRequest, UndiciThrottleOptions } from './undici.js';
import type { DispatchController, DispatchHandler, DispatchHeaders, RequestController } from './undici-controller.js';
import { isSignal, untilAborted } from './until-aborted.js';

/** The bytes that are read of a refusal before its connection is closed. Below, the connection can be used again. */
const MAX_DISCARDED = 65_536;

/** An attempt of a request. */
export interface AttemptOf<K> {
  readonly key: K;
  readonly request: UndiciRequest;
  readonly refusal: UndiciThrottleOptions<K>['refusal'];
  readonly controller: RequestController;
  /** The number of earlier attempts. */
  readonly number: number;
  readonly maxRetries: number;
}

export class UndiciAttempt<K> implements DispatchHandler {
  readonly #engine: Engine<K>;
  readonly #attempt: AttemptOf<K>;
  readonly #permit: Permit;
  readonly #flight: Flight;
  readonly #counted: CountedRequest<K> | undefined;
  #resolve!: (outcome: Outcome<K, void>) => void;
  #reject!: (error: unknown) => void;
  /** Whether the upstream does not count the request. */
  #isUncounted = true;
  /** The events that wait for the judgement of the response. */
  #waiting: (() => void)[] | undefined;
  /** `before` the headers, `passing` the response to the caller, `discarding` a refusal, or at the `end`. */
  #state: 'before' | 'passing' | 'discarding' | 'end' = 'before';
  #discarded = 0;

  constructor(engine: Engine<K>, attempt: AttemptOf<K>, permit: Permit) {
    this.#engine = engine;
    this.#attempt = attempt;
    this.#permit = permit;
    this.#flight = engine.pauses.begin();
    this.#counted = engine.learner?.begin(attempt.key, permit);
  }

  /** Dispatches the request. Resolves when the response is passed on, or the request is to be sent again. */
  run(dispatch: (handler: DispatchHandler) => void): Promise<Outcome<K, void>> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      const { controller } = this.#attempt;
      if (this.#engine.canLosePermits && isSignal(this.#permit.signal))
        this.#permit.signal.addEventListener('abort', this.#lose);
      if (controller.aborted) return this.#fail(controller.reason);
      try {
        dispatch(this);
      } catch (error) {
        this.#fail(error);
      }
    });
  }

  onRequestStart(target: DispatchController, context: unknown): void {
    this.#isUncounted = false;
    const { controller } = this.#attempt;
    controller.connect(target);
    controller.forward('onRequestStart', context);
  }

  onRequestUpgrade(_target: DispatchController, status: number, headers: DispatchHeaders, socket: unknown): void {
    this.#accept();
    if (this.#engine.settings.hold === 'body')
      (socket as { on(event: 'close', listener: () => void): unknown }).on('close', () => this.#end());
    this.#attempt.controller.forward('onRequestUpgrade', status, headers, socket);
  }

  onResponseStart(target: DispatchController, status: number, headers: DispatchHeaders, message?: string): void {
    const { controller, refusal } = this.#attempt;
    const pass = (): void => controller.forward('onResponseStart', status, headers, message);
    // An informational response precedes the response.
    if (status < 200) return pass();
    let lookup: ReturnType<typeof createLookup> | undefined;
    const get = (name: string): string | undefined => (lookup ??= createLookup(headers))(name.toLowerCase());
    const response: ResponseLike = { status, headers: { get } };
    if (refusal === undefined && !this.#engine.settings.statuses.has(status)) {
      this.#learn(response);
      this.#accept();
      return pass();
    }
    this.#waiting = [pass];
    target.pause();
    this.#judge(response).then(
      (retry) => this.#continue(target, retry),
      (error: unknown) => {
        this.#fail(error);
        target.abort(error);
      },
    );
  }

  onResponseData(target: DispatchController, chunk: { readonly length: number }): void {
    if (this.#state === 'discarding') {
      this.#discarded += chunk.length;
      if (this.#discarded > MAX_DISCARDED) target.abort(new Error('The rest of a refusal is not read'));
    } else this.#pass(() => this.#attempt.controller.forward('onResponseData', chunk));
  }

  onResponseEnd(_target: DispatchController, trailers: unknown): void {
    this.#pass(() => {
      this.#end();
      this.#attempt.controller.forward('onResponseEnd', trailers);
    });
  }

  onResponseError(_target: DispatchController, error: unknown): void {
    if (this.#state === 'before' && this.#waiting === undefined) return this.#fail(error);
    this.#pass(() => {
      this.#end();
      this.#attempt.controller.fail(error);
    });
  }

  /** Passes an event to the caller: after the judgement of the response, and never for a discarded one. */
  #pass(event: () => void): void {
    if (this.#waiting !== undefined) this.#waiting.push(event);
    else if (this.#state === 'passing') event();
  }

  /** Decides on a response, pauses the gate for a refusal, and learns from the response. */
  async #judge(response: ResponseLike): Promise<Retry<K> | undefined> {
    const { settings } = this.#engine;
    const { refusal, request, controller, key: pausedKey, number, maxRetries } = this.#attempt;
    const stated = await untilAborted(controller.signal, () =>
      readRefusal(response, request, refusal, settings.statuses),
    );
    let retry: Retry<K> | undefined;
    if (stated !== NOT_REFUSED) {
      this.#isUncounted = settings.refundRefused;
      const isServerError = response.status >= 500;
      const refused = { flight: this.#flight, pausedKey, stated, isServerError, number, maxRetries };
      retry = await pauseAfterRefusal(this.#engine, refused);
      if (this.#isUncounted) this.#permit.refund();
    }
    this.#learn(response);
    return retry;
  }

  /** Lowers the levels of the gate to what the response reports. A refund comes before, as in `throttledFetch`. */
  #learn(response: ResponseLike): void {
    if (this.#counted !== undefined) this.#engine.learner?.learn(this.#counted, response, () => this.#attempt.key);
  }

  /** Passes the response on, or discards it. */
  #continue(target: DispatchController, retry: Retry<K> | undefined): void {
    if (this.#state === 'end') return;
    const waiting = this.#waiting as (() => void)[];
    this.#waiting = undefined;
    const { controller } = this.#attempt;
    if (retry !== undefined) {
      this.#state = 'discarding';
      controller.connect(undefined);
      this.#release();
      this.#resolve({ retry });
      return target.resume();
    }
    this.#accept();
    for (const event of waiting) event();
    if (!controller.paused) target.resume();
  }

  /** The response goes to the caller. */
  #accept(): void {
    this.#state = 'passing';
    this.#endFlight();
    if (this.#engine.settings.hold === 'headers') this.#release();
    this.#resolve({ value: undefined });
  }

  /** The response has ended. */
  #end(): void {
    this.#state = 'end';
    this.#release();
  }

  /** The attempt has failed before the caller has received the response. */
  #fail(error: unknown): void {
    if (this.#state === 'end') return;
    this.#state = 'end';
    this.#waiting = undefined;
    if (this.#isUncounted) this.#permit.refund();
    this.#release();
    this.#reject(error);
  }

  /** The request has its response, or has failed. */
  #endFlight(): void {
    this.#engine.pauses.end(this.#flight);
    if (this.#counted !== undefined) this.#engine.learner?.end(this.#counted);
  }

  #release(): void {
    this.#endFlight();
    if (isSignal(this.#permit.signal)) this.#permit.signal.removeEventListener('abort', this.#lose);
    this.#permit.release();
  }

  /** The permit is lost: another caller may have its slot. */
  readonly #lose = (): void => this.#attempt.controller.abort(this.#permit.signal?.reason);
}
