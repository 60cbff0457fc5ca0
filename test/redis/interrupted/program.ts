/** A process that starts a server and a child process, prints both, and ends in the way that its argument names. */
import { spawn } from 'node:child_process';
import { guarded, temporaryFolder } from '../../support/processes.js';
import { startRedis } from '../../support/redis-server.js';
import { descendants } from './started.js';

const [end] = process.argv.slice(2);
await startRedis();
temporaryFolder('headgate-forgotten-');
guarded(spawn(process.execPath, ['-e', 'setInterval(() => {}, 1_000)'], { stdio: 'ignore' }));
console.log(JSON.stringify(descendants(process.pid)));
if (end === 'throw') throw new Error('set-up failed half-way');
if (end === 'exit') process.exit(0);
