/** The memory that clients can occupy with keys. Each program runs in its own process, with its own heap. */
import net from 'node:net';
import { expect, test } from 'vitest';
import { runProgram } from '../support/child-program.js';

/** A server with a limit for each value of a header. It exits at the end of its standard input. */
const SERVER = `
  import http from 'node:http';
  import { KeyedThrottle } from 'headgate';
  import { express } from 'headgate/http';
  const keyed = new KeyedThrottle(100, 4, 3_600);
  const limit = express({ keyed, key: 'header:x-api-key' });
  const server = http.createServer((req, res) => limit(req, res, (error) => {
    res.statusCode = error ? 500 : 200;
    res.end();
  }));
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
  process.stdin.on('end', () => { console.log(keyed.size); process.exit(); }).resume();
`;

/** Sends the requests one after another on one connection. Resolves with the number of responses with 200. */
const sendAll = async (port: number, requests: Iterable<string>): Promise<number> => {
  const socket = net.connect(port, '127.0.0.1');
  const source = requests[Symbol.iterator]();
  let seen = '';
  let served = 0;
  return new Promise((resolve, reject) => {
    const next = (): void => {
      const { done, value } = source.next();
      if (done === true) return (void socket.destroy(), resolve(served));
      socket.write(value, 'latin1');
    };
    socket
      .on('error', reject)
      .on('close', () => reject(new Error(`the server closed the connection after ${served} requests`)))
      .on('connect', next);
    socket.setEncoding('latin1').on('data', (text: string) => {
      seen += text;
      if (!seen.includes('\r\n\r\n')) return;
      if (seen.startsWith('HTTP/1.1 200')) served++;
      seen = '';
      next();
    });
  });
};

function* distinctRequests(connection: number, count: number, length: number): Generator<string> {
  const rest = 'k'.repeat(length - 12);
  for (let index = 0; index < count; index++)
    yield `GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: ${`${connection}.${index}`.padEnd(12, '.')}${rest}\r\n\r\n`;
}

test(
  'a process with a heap of 128 MB serves 20,000 distinct headers of 15 kB (FAULTS 35)',
  { timeout: 30_000 },
  async () => {
    const server = await runProgram(SERVER, ['--max-old-space-size=128']);
    const port = Number(await server.started);
    const served = await Promise.all(
      [0, 1, 2, 3].map((connection) => sendAll(port, distinctRequests(connection, 5_000, 15_000))),
    );
    server.end();
    expect([served, await server.ended]).toEqual([
      [5_000, 5_000, 5_000, 5_000],
      { code: 0, output: `${port}\n20000\n`, errors: '' },
    ]);
  },
);

test('a live key of maximal length takes less than 2 kB', { timeout: 30_000 }, async () => {
  const program = await runProgram(
    `
    import { KeyedThrottle } from 'headgate';
    import { boundKey } from '../../src/http/bounded-key.js';
    const COUNT = 40_000;
    const used = () => (gc(), gc(), process.memoryUsage()).heapUsed;
    const unchanged = (index) => boundKey('\\u20ac'.repeat(120) + String(index).padStart(8, '0'));
    const replaced = (index) => boundKey(index + '\\u20ac'.repeat(200));
    const kinds = {
      'a bucket, an unchanged key': [new KeyedThrottle(100, 4, 3_600), unchanged],
      'a bucket, a replaced key': [new KeyedThrottle(100, 4, 3_600), replaced],
      'a slot, an unchanged key': [new KeyedThrottle(Infinity, 1), unchanged],
    };
    for (const [name, [keyed, key]] of Object.entries(kinds)) {
      const before = used();
      const permits = [];
      for (let index = 0; index < COUNT; index++) {
        const permit = keyed.tryAcquire(key(index));
        // A used bucket keeps its key live. A slot keeps its key live only while its permit is held.
        if (name.startsWith('a bucket')) permit.release();
        else permits.push(permit);
      }
      console.log(JSON.stringify([name, keyed.size, Math.round((used() - before) / COUNT), permits.length]));
    }
  `,
    ['--expose-gc'],
  );
  const { code, output, errors } = await program.ended;
  expect([code, errors]).toEqual([0, '']);
  const lines = output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as [string, number, number, number]);
  for (const [name, , bytes] of lines) console.info(`${name}: ${bytes} B for each live key`);
  expect(lines.map(([, size]) => size)).toEqual([40_000, 40_000, 40_000]);
  for (const [, , bytes] of lines) expect(bytes).toBeLessThan(2_000);
});
