/** The hash slots of a Redis Cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ */

const SLOTS = 16_384;
const encoder: TextEncoder = new TextEncoder();
let table: Uint16Array | undefined;

/** The table of CRC16 with the polynomial 0x1021, one entry for each byte. */
const createTable = (): Uint16Array =>
  Uint16Array.from({ length: 256 }, (_, byte) => {
    let crc = byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80_00 ? (crc << 1) ^ 0x10_21 : crc << 1;
    return crc;
  });

/** Returns the slot of a key: the CRC16 of its hash tag, or of the whole key without a hash tag. */
export function hashSlot(key: string): number {
  table ??= createTable();
  const open = key.indexOf('{');
  const close = open < 0 ? -1 : key.indexOf('}', open + 1);
  let crc = 0;
  for (const byte of encoder.encode(close > open + 1 ? key.slice(open + 1, close) : key))
    crc = ((crc << 8) ^ (table[(crc >> 8) ^ byte] as number)) & 0xff_ff;
  return crc % SLOTS;
}
