/**
 * `npm run demo`: ten seconds that show the purpose of a throttle. A server allows 20 requests per second and 4 at a
 * time, and bans a client for a second that exceeds a limit. The demo sends the same 200 requests twice: all at once,
 * then through a throttle. It states the limits first. It fails if the server refused a throttled request, or if the
 * throttle used too little of the allowed rate. It draws what the throttle did, and the picture of the README.
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { fileURLToPath } from 'node:url';
import progress from 'cli-progress';
import Table from 'cli-table3';
import { Throttle } from 'headgate';
import { record, toSVG } from 'headgate/testing';
import { drawDemoScenario } from './demo-scenario.js';

const REQUESTS = 200;
const RATE = 20;
const AT_A_TIME = 4;
const BAN_SECONDS = 1;
const LEAST_SHARE = 0.95;

/**
 * A server with a quota, which shares no code with headgate. Its own meter holds 20 requests, refills at 20 per second,
 * starts full, and counts each request when it arrives.
 */
function createUpstream(): Server {
  let allowance = RATE;
  let metered = performance.now();
  let active = 0;
  let bannedUntil = 0;
  return createServer((request, response) => {
    const now = performance.now();
    allowance = Math.min(RATE, allowance + ((now - metered) / 1000) * RATE);
    metered = now;
    if (now >= bannedUntil && (allowance < 1 || active === AT_A_TIME)) bannedUntil = now + BAN_SECONDS * 1000;
    if (now < bannedUntil) {
      response.writeHead(429, { 'Retry-After': BAN_SECONDS }).end();
      return;
    }
    allowance--;
    active++;
    const number = Number(request.url?.slice(1));
    const workMs = 50 + ((number * 37) % 101);
    setTimeout(() => {
      active--;
      response.end('done');
    }, workMs);
  });
}

/** The responses of the current trial. */
const answers = { delivered: 0, refused: 0 };

async function get(url: string): Promise<Response> {
  const response = await fetch(url);
  await response.text();
  answers[response.ok ? 'delivered' : 'refused']++;
  return response;
}

/**
 * The burst leaves 4 of the server's 20 tokens unused. Requests travel for different times: a late request and the
 * requests behind it can arrive together, so the server sees more requests at once than the throttle sent. A reserve of
 * 4 tokens covers delays of up to 0.2 s at 20 per second. The throttle still uses the full rate.
 */
const throttle = new Throttle(RATE, AT_A_TIME, 1, { burst: RATE - 4 });

async function getThrottled(url: string): Promise<Response> {
  const response = await throttle.run(() => get(url));
  if (response.status !== 429) return response;
  throttle.pause(Number(response.headers.get('Retry-After')));
  return getThrottled(url);
}

interface Outcome {
  delivered: number;
  refused: number;
  seconds: number;
  /**
   * The delivered share of all requests that the server's meter would have admitted from the first request to the last
   * response: 20 at first, and 20 more for every second.
   */
  share: number;
}

/** Sends all requests through `request` to a new server. */
async function trial(title: string, request: (url: string) => Promise<Response>): Promise<Outcome> {
  const server = createUpstream().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : address;
  answers.delivered = answers.refused = 0;

  console.log(`\n${title}`);
  // The bar goes to standard output, so that a file or a pipe receives no bar.
  const bar = new progress.SingleBar(
    { stream: process.stdout, format: '{bar} {value} of {total} answered, {duration} s', hideCursor: true },
    progress.Presets.shades_classic,
  );
  bar.start(REQUESTS, 0);
  const started = performance.now();
  try {
    const urls = Array.from({ length: REQUESTS }, (_, number) => `http://127.0.0.1:${port}/${number}`);
    await Promise.all(urls.map((url) => request(url).then(() => bar.increment())));
  } finally {
    bar.stop();
    server.close();
    server.closeAllConnections();
  }
  const seconds = (performance.now() - started) / 1000;
  return { ...answers, seconds, share: answers.delivered / (RATE + RATE * seconds) };
}

console.log(
  [
    `The server allows ${RATE} requests per second and ${AT_A_TIME} at a time. A client that exceeds a limit receives`,
    `429 for ${BAN_SECONDS} s, whatever the client sends. The demo sends ${REQUESTS} requests twice: all at once, and`,
    'then through a throttle that knows the limits.',
  ].join('\n'),
);
const rush = await trial(`${REQUESTS} requests at once: Promise.all(urls.map(get))`, get);
const trace = record(throttle);
const calm = await trial(
  `The same through a throttle of ${RATE} a second, ${AT_A_TIME} at a time: throttle.run(() => get(url))`,
  getThrottled,
);
trace.stop();

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const table = new Table({
  head: ['', 'Promise.all', 'Throttle'],
  colAligns: ['left', 'right', 'right'],
  style: { head: [], border: [] },
});
table.push(
  ['delivered', rush.delivered, calm.delivered],
  ['refused', rush.refused, calm.refused],
  ['time', `${rush.seconds.toFixed(2)} s`, `${calm.seconds.toFixed(2)} s`],
  ['share of the allowed rate used', percent(rush.share), percent(calm.share)],
);
console.log(`\n${table.toString()}\n`);

const draw = async (file: string, svg: string): Promise<string> => {
  const path = fileURLToPath(new URL(file, import.meta.url));
  await writeFile(path, svg);
  return path;
};
const timeline = toSVG(trace, { title: `${REQUESTS} requests through a throttle` });
console.log(`What the throttle did: ${await draw('demo.svg', timeline)}`);
console.log(`The picture of the README: ${await draw('../demo.svg', await drawDemoScenario())}`);

const passed = calm.delivered === REQUESTS && calm.refused === 0 && calm.share >= LEAST_SHARE;
console.log(
  `${passed ? 'Passed' : 'FAILED'}: ${calm.delivered} of ${REQUESTS} delivered through the throttle,`,
  `${calm.refused} refused, ${percent(calm.share)} of the allowed rate used`,
  `(required: all, none, at least ${percent(LEAST_SHARE)}).`,
);
process.exitCode = passed ? 0 : 1;
