/**
 * What a gate remembers of a key. Clients write keys, or parts of them, so a key must not be long, and must not forge lines
 * of a log.
 */
import { sha256 } from '../web/sha256.js';

/**
 * The longest key, in UTF-16 code units, that is kept as it is. UUIDs, e-mail addresses, API keys and digests are shorter, a
 * JSON Web Token is longer. A replaced key has 136, so it equals no kept one.
 */
const MAX_KEY_LENGTH = 128;

/** Control characters, line separators, marks that reverse the direction of text, and lone surrogates. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Cs}]/u;

/**
 * `key` itself, or what stands for it if it is too long or has unprintable characters: the printable ASCII of its first 64
 * characters and its SHA-256 digest. Two keys never come out as one.
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
 * A string with storage of its own. In V8 a part of a string keeps all of it alive: a map of keys that were cut out of
 * URLs would keep the URLs.
 */
function copy(text: string): string {
  return ` ${text}`.slice(1);
}
