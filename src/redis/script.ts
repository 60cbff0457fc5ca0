/** A Lua script, and how Redis runs it. */
export class Script {
  readonly source: string;
  #sha: Promise<string | undefined> | undefined;

  constructor(source: string) {
    this.source = source;
  }

  /** The SHA-1 of the source in hexadecimal, the name of a cached script; `undefined` without WebCrypto. */
  get sha(): Promise<string | undefined> {
    return (this.#sha ??= this.#hash().catch(() => undefined));
  }

  async #hash(): Promise<string> {
    const digest = await crypto.subtle.digest('SHA-1', new TextEncoder().encode(this.source));
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  /** Runs the script by its SHA-1. If Redis has not cached the script, the full text is sent. */
  async evaluate(bySha: (sha: string) => Promise<unknown>, inFull: () => Promise<unknown>): Promise<unknown> {
    const sha = await this.sha;
    if (sha === undefined) return inFull();
    try {
      return await bySha(sha);
    } catch (error) {
      if ((error as { message?: string } | undefined)?.message?.startsWith('NOSCRIPT') !== true) throw error;
      return inFull();
    }
  }
}
