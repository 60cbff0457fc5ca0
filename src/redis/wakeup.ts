/**
 * The instant at which a throttle must call the script again: its head is due, or the owner of the head may be dead.
 * Replies and messages set it.
 */
export class Wakeup {
  /** By the clock of the process, in seconds; `Infinity` for never. */
  #at = Infinity;
  /** The same instant by the clock of the server, in microseconds. */
  #serverAt = 0;
  #messages = 0;
  /** The latest server instant that has passed by the clock of the process. */
  #confirmed = 0;

  get at(): number {
    return this.#at;
  }

  /** For the script: proves that time has passed if the clock of the server was set back. */
  get confirmed(): number {
    return this.#confirmed;
  }

  /** The number of messages so far. A batch remembers it, so that its reply recognises newer messages. */
  get messages(): number {
    return this.#messages;
  }

  /** @param messagesAtSend The value of `messages` when the batch was sent. */
  setByReply(now: number, span: number, serverAt: number, messagesAtSend: number): void {
    const [at, previous] = [this.#at, this.#serverAt];
    this.#set(now, span, serverAt);
    // A message that arrived during the call may be older or newer than the reply. The earlier instant is safe.
    if (this.#messages !== messagesAtSend && at < this.#at) [this.#at, this.#serverAt] = [at, previous];
  }

  setByMessage(now: number, span: number, serverAt: number): void {
    this.#messages++;
    const [at, previous] = [this.#at, this.#serverAt];
    this.#set(now, span, serverAt);
    // The message may be older than a reply that was applied before.
    if (at < this.#at) [this.#at, this.#serverAt] = [at, previous];
  }

  #set(now: number, span: number, serverAt: number): void {
    // While the clock of the server is behind, each reply states the whole span again. The timer keeps its instant.
    this.#at = span < Infinity && serverAt === this.#serverAt ? Math.min(this.#at, now + span) : now + span;
    this.#serverAt = serverAt;
  }

  /** Whether the instant has passed. It counts once. */
  take(now: number): boolean {
    if (now < this.#at) return false;
    this.#confirmed = Math.max(this.#confirmed, this.#serverAt);
    this.#at = Infinity;
    return true;
  }
}
