/** A process of the fleet: callers that acquire and release permits, and a file with a report of each event. */
import { openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { RedisThrottle, type RedisThrottleOptions } from 'headgate/redis';
import { Callers, type CallerSettings } from './callers.js';
import { writeReport } from './reports.js';
import { tracedClient } from './traced-client.js';

export interface WorkerSettings extends CallerSettings {
  readonly kind: 'ioredis' | 'node-redis';
  readonly url: string;
  readonly throttle: Omit<RedisThrottleOptions, 'client'>;
  /** The file of the reports. */
  readonly reports: string;
}

/** `calm`: no hold is longer than usual from now on. */
export type WorkerCommand = 'go' | 'calm' | 'stop' | { readonly block: number };

const settings = JSON.parse(process.argv[2] ?? '') as WorkerSettings;
const { kind, url, throttle: options, reports } = settings;
const file = openSync(reports, 'a');
const client = tracedClient(kind, url);
const throttle = new RedisThrottle({ ...options, client: client.connection });
const callers = new Callers(
  throttle,
  options.ttl ?? 60,
  settings,
  (report) => void writeSync(file, writeReport(report)),
);

let begin: () => void = () => {};
const begins = new Promise<void>((resolve) => (begin = resolve));
process.on('message', (command: WorkerCommand) => {
  if (command === 'go') begin();
  else if (command === 'calm') callers.calm();
  else if (command === 'stop') callers.stop();
  else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, command.block);
});
process.on('disconnect', () => process.exit(1));

// The connection exists before the first call.
for (let connected = false; !connected;)
  connected = await throttle.inspect().then(
    () => true,
    () => sleep(20, false),
  );
process.send?.('ready');
await begins;
await callers.run();
await throttle.close();
await throttle.idle();
client.end();
process.exit(0);
