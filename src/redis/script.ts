/** A Lua script, and the name under which Redis caches it. */
export class Script {
  readonly source: string;
  #sha: string | undefined;
  #hashing: Promise<void> | undefined;

  constructor(source: string) {
    this.source = source;
  }

  /**
   * The SHA-1 of the source in hexadecimal, the name of the script in the cache of Redis. Empty before
   * {@link Script.prepare}, and on a platform without WebCrypto: the full text is sent then.
   */
  get sha(): string {
    return this.#sha ?? '';
  }

  /** Computes the SHA-1. Returns `undefined` when that is done, so that later calls await nothing. */
  prepare(): Promise<void> | undefined {
    if (this.#sha !== undefined) return undefined;
    return (this.#hashing ??= this.#hash());
  }

  async #hash(): Promise<void> {
    try {
      const digest = await crypto.subtle.digest('SHA-1', new TextEncoder().encode(this.source));
      this.#sha = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
    } catch {
      this.#sha = '';
    }
  }
}
