/**
 * `npm run demo`: ten seconds that show what a throttle is for. A server allows 20 requests a second, 4 at a time,
 * and bans for a second whoever asks for more. It gets the same 200 requests twice: all at once, then through a
 * throttle. The program fails if a throttled request was refused, or too little of what the server allows was used.
 * It draws what the throttle did, and the picture of the README.
 */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { fileURLToPath } from 'node:url';
import progress from 'cli-progress';
import Table from 'cli-table3';
import { Throttle } from 'headgate';
import { record, toSVG } from 'headgate/testing';
import { story } from './story.js';

const REQUESTS = 200;
const RATE = 20;
const AT_A_TIME = 4;
const BAN_SECONDS = 1;
const LEAST_SHARE = 0.95;

/**
 * The judge shares no code with the accused: it keeps a meter of its own, and applies it when a request arrives.
 * The meter holds 20, refills at 20 a second, and starts full.
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

/** The answers of the trial that runs. */
const answers = { delivered: 0, refused: 0 };

async function get(url: string): Promise<Response> {
  const response = await fetch(url);
  await response.text();
  answers[response.ok ? 'delivered' : 'refused']++;
  return response;
}

/**
 * 4 of the server's 20 are left alone. A request arrives some time after it was let go, and not all take equally
 * long: if some are late, those behind them catch up, and more arrive in a moment than left in one. A reserve of 4,
 * at 20 a second, covers delays of up to 0.2 s, and is all that it costs: the rate itself is used in full.
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
   * What was delivered, as a part of all that the server's meter would have let in from the first request to the
   * last answer: the 20 that it holds at first, and 20 more for every second.
   */
  share: number;
}

/** Gets all that there is with `request`, from a server that has never seen a request before. */
async function trial(title: string, request: (url: string) => Promise<Response>): Promise<Outcome> {
  const server = createUpstream().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : address;
  answers.delivered = answers.refused = 0;

  console.log(`\n${title}`);
  // Drawn where the text goes, so that it is left out when that is a file or a pipe.
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
console.log(
  `What the throttle did: ${await draw('demo.svg', toSVG(trace, { title: `${REQUESTS} requests through a throttle` }))}`,
);
console.log(`The picture of the README: ${await draw('../demo.svg', await story())}`);

const held = calm.delivered === REQUESTS && calm.refused === 0 && calm.share >= LEAST_SHARE;
const result = `${calm.delivered} of ${REQUESTS} delivered through the throttle, ${calm.refused} refused, ${percent(calm.share)} of the allowed rate used`;
console.log(
  `${held ? 'It held' : 'IT DID NOT HOLD'}: ${result} (asked for: all, none, at least ${percent(LEAST_SHARE)}).`,
);
process.exitCode = held ? 0 : 1;
