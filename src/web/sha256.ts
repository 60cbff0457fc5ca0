/**
 * A synchronous SHA-256 of a text, for every runtime: FIPS 180-4, sections 4.1.2, 5 and 6.2.
 *
 * `crypto.subtle` is asynchronous, and browsers and some workers lack `node:crypto`, so the digest is computed here.
 * If `node:crypto` is present, it computes the same digest some ten times as fast.
 */

/** The part of `node:crypto` that is used. */
interface NodeCrypto {
  createHash(algorithm: string): { update(bytes: Uint8Array): { digest(encoding: string): string } };
}

/** `undefined` before the first use, `null` if the runtime lacks `node:crypto`. */
let native: NodeCrypto | null | undefined;

/** The digest of `text` in lower-case hexadecimal. Different texts are encoded as different bytes: {@link encode}. */
export function sha256(text: string): string {
  const bytes = encode(text);
  if (native === undefined) native = findNative();
  return native === null ? pureSha256(bytes) : native.createHash('sha256').update(bytes).digest('hex');
}

function findNative(): NodeCrypto | null {
  try {
    const { process } = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
    return (process?.getBuiltinModule?.('node:crypto') as NodeCrypto | undefined) ?? null;
  } catch {
    // This runtime was built without crypto.
    return null;
  }
}

/**
 * The bytes of `text`: UTF-8 for a well-formed text. A lone surrogate is encoded in three bytes (generalized UTF-8, as
 * WTF-8 specifies it). `TextEncoder` would encode all lone surrogates as U+FFFD, so that different texts would collide.
 */
export function encode(text: string): Uint8Array {
  const encoder = new TextEncoder();
  if (!/\p{Surrogate}/u.test(text)) return encoder.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if ((code & ~0x7ff) === 0xd800) bytes.push(0xed, 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** The round constants and the initial hash value, computed at the first use. */
let constants: { readonly round: Int32Array; readonly start: Int32Array } | undefined;

/** Computes the constants by their definition: cube roots of the first 64 primes, square roots of the first eight. */
function computeConstants(): typeof constants & {} {
  const primes: number[] = [];
  for (let candidate = 2; primes.length < 64; candidate++)
    if (primes.every((prime) => candidate % prime !== 0)) primes.push(candidate);
  // The first 32 bits of the fractional part; `| 0` drops the integer part. A double below 18 has 48 fractional bits,
  // so rounding is harmless.
  const fraction = (root: number): number => (root * 2 ** 32) | 0;
  return {
    round: Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime))),
    start: Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime))),
  };
}

/** The digest of `bytes`, computed in JavaScript. */
export function pureSha256(bytes: Uint8Array): string {
  const { round, start } = (constants ??= computeConstants());
  const { length } = bytes;
  const padded = new Uint8Array(((length + 72) >> 6) << 6);
  padded.set(bytes);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer);
  // The length in bits, as a 64-bit integer.
  view.setUint32(padded.length - 8, length / 2 ** 29);
  view.setUint32(padded.length - 4, length << 3);
  const hash = start.slice();
  const schedule = new Int32Array(64);
  for (let offset = 0; offset < padded.length; offset += 64) {
    for (let index = 0; index < 16; index++) schedule[index] = view.getInt32(offset + 4 * index);
    for (let index = 16; index < 64; index++) {
      const early = schedule[index - 15]!;
      const late = schedule[index - 2]!;
      const sigma0 = ((early >>> 7) | (early << 25)) ^ ((early >>> 18) | (early << 14)) ^ (early >>> 3);
      const sigma1 = ((late >>> 17) | (late << 15)) ^ ((late >>> 19) | (late << 13)) ^ (late >>> 10);
      schedule[index] = schedule[index - 16]! + sigma0 + schedule[index - 7]! + sigma1;
    }
    mix(hash, round, schedule);
  }
  return Array.from(hash, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

/** Processes one block: section 6.2.2, steps 2 to 4. The variable names are the names of the standard. */
function mix(hash: Int32Array, round: Int32Array, schedule: Int32Array): void {
  let a = hash[0]!;
  let b = hash[1]!;
  let c = hash[2]!;
  let d = hash[3]!;
  let e = hash[4]!;
  let f = hash[5]!;
  let g = hash[6]!;
  let h = hash[7]!;
  for (let index = 0; index < 64; index++) {
    const sum1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + sum1 + ((e & f) ^ (~e & g)) + round[index]! + schedule[index]!) | 0;
    const sum0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (sum0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  hash[0]! += a;
  hash[1]! += b;
  hash[2]! += c;
  hash[3]! += d;
  hash[4]! += e;
  hash[5]! += f;
  hash[6]! += g;
  hash[7]! += h;
}
