/**
 * What all throttles of a process that use one client share: the client, one channel on which the process is told what
 * others have done, and whether Redis answers at all.
 */
import type { RedisConnection } from './client.js';
import { createDriver } from './drivers/create-driver.js';
import type { Driver } from './drivers/driver.js';
import { messageOf } from './errors.js';
import type { Script } from './script.js';
import type { SteadyClock } from './steady-clock.js';

/** A throttle, as the hub sees it. */
export interface Member {
  /** Something was told to it: one event a line. */
  hear(events: string[]): void;
  /** Messages may have been lost. */
  reconcile(): void;
}

/** Seconds after which Redis is tried again, where nobody has to wait for the answer. */
const PROBE_SECONDS = 1;

const hubs = new WeakMap<object, Hub>();
/** Those who gave nothing but a URL, and the same one, share a client. */
const byUrl = new Map<string, Hub>();

/** The hub of a client. */
export function hubOf(client: RedisConnection): Hub {
  const url =
    typeof client === 'object' && client !== null && Object.keys(client).join() === 'url'
      ? (client as { url: string }).url
      : undefined;
  const known = url === undefined ? hubs.get(client) : byUrl.get(url);
  if (known !== undefined) return known;
  const hub: Hub = new Hub(createDriver(client), () => (url === undefined ? hubs.delete(client) : byUrl.delete(url)));
  if (url === undefined) hubs.set(client, hub);
  else byUrl.set(url, hub);
  return hub;
}

export class Hub {
  readonly #driver: Driver;
  readonly #forget: () => void;
  /** Tells this process from all others. Not made at once: some platforms have no randomness to give while they start. */
  #id: string | undefined;
  #instances = 0;
  #users = 0;
  /** Those who have something at stake now. */
  readonly #members = new Map<string, Member>();
  #listening = false;
  #downUntil: number | undefined;

  constructor(driver: Driver, forget: () => void) {
    this.#driver = driver;
    this.#forget = forget;
  }

  /** A throttle begins to use it. */
  join(): void {
    this.#users++;
  }

  /** A throttle has ended. With the last one, the connections that are ours end. */
  quit(): void {
    if (--this.#users > 0) return;
    this.#forget();
    this.#driver.close();
  }

  /** A name that no other throttle has, in any process. */
  name(): string {
    this.#id ??= Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => (byte % 36).toString(36)).join('');
    return `${this.#id}.${(this.#instances++).toString(36)}`;
  }

  /** `member` has something at stake from now on, under a name of {@link Hub.name}. */
  enter(name: string, member: Member): void {
    this.#members.set(name.slice(name.indexOf('.') + 1), member);
    this.#listen();
  }

  leave(name: string): void {
    this.#members.delete(name.slice(name.indexOf('.') + 1));
  }

  /** Whether Redis failed the last call; then, now and then, it is to be tried again. */
  isDown(now: number, probe: () => void): boolean {
    if (this.#downUntil === undefined) return false;
    if (now >= this.#downUntil) {
      this.#downUntil = now + PROBE_SECONDS;
      probe();
    }
    return true;
  }

  /**
   * Runs a script, within `timeout` seconds.
   *
   * @param late Called when the answer comes after all: so Redis answers again.
   */
  call(
    script: Script,
    keys: string[],
    args: string[],
    clock: SteadyClock,
    timeout: number,
    late: () => void,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let open = true;
      const end = (): boolean => {
        const first = open;
        open = false;
        cancel();
        return first;
      };
      const fail = (error: unknown): void => {
        if (!end()) return;
        // A key that holds something else is the fault of that key: Redis has answered.
        if (!messageOf(error).includes('WRONGTYPE')) this.#downUntil = clock.now() + PROBE_SECONDS;
        reject(error);
      };
      const cancel = clock.schedule(timeout, () => fail(new Error(`no answer within ${timeout} s`)));
      const succeed = (reply: unknown): void => {
        this.#downUntil = undefined;
        if (end()) resolve(reply);
        else late();
      };
      try {
        // A client of the user's own may answer at once, or with something like a promise that settles twice.
        Promise.resolve(this.#driver.run(script, keys, args)).then(succeed, fail);
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Whenever that begins, everyone is to ask what was said before. */
  #listen(): void {
    if (this.#listening) return;
    this.#listening = true;
    this.#driver.listen(
      `headgate:${this.#id}`,
      (message) => this.#hear(message),
      () => {
        for (const member of this.#members.values()) member.reconcile();
      },
    );
  }

  #hear(message: unknown): void {
    // What a client of the user's own gives instead of a message is as good as lost.
    if (typeof message !== 'string') return;
    const [instance = '', ...events] = message.split('\n');
    this.#members.get(instance)?.hear(events);
  }
}
