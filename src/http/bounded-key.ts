/**
 * Bounds the keys that a gate stores. Clients write keys, or parts of keys. A stored key must be short, and must not
 * forge lines of a log.
 */
import { sha256 } from '../web/sha256.js';

/**
 * The longest key, in UTF-16 code units, that is stored unchanged. UUIDs, e-mail addresses, API keys and digests are
 * shorter; a JSON Web Token is longer. A replacement has 136 code units, so it never equals an unchanged key.
 */
const MAX_KEY_LENGTH = 128;

/** Control characters, line separators, characters that reverse the direction of text, and lone surrogates. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Cs}]/u;

/**
 * Returns `key`, or a replacement if `key` is too long or has unprintable characters. The replacement contains the
 * printable ASCII characters among the first 64, and the SHA-256 digest of `key`. Different keys have different
 * results.
 */
export function boundKey(key: string): string {
  if (key.length <= MAX_KEY_LENGTH && !UNPRINTABLE.test(key)) return copy(key);
  const readable = key
    .slice(0, 64)
    .replaceAll(/[^ -~]/g, '?')
    .padEnd(64, '.');
  return copy(`${readable}~sha256:${sha256(key)}`);
}

/**
 * A string with storage of its own. In V8, a slice of a string keeps the whole string alive: a map of keys that were
 * sliced from URLs would keep the URLs.
 */
function copy(text: string): string {
  return ` ${text}`.slice(1);
}
