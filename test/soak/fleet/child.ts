/** The worker processes of a history, as their parent sees them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { endProcess, guarded } from '../../support/processes.js';
import type { Life } from './holds-judge.js';
import { readReports } from './reports.js';
import type { WorkerCommand, WorkerSettings } from './worker.js';

/** Beside the program of the soak. */
const program = fileURLToPath(new URL('worker.js', import.meta.url));

export class Child {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #settings: WorkerSettings;
  readonly #errors: string[] = [];
  /** The exit code, or the signal that ended the process. */
  end: number | string | undefined;
  readonly ready: Promise<unknown>;
  readonly #ended: Promise<unknown>;
  #wasKilled = false;

  constructor(name: string, settings: WorkerSettings) {
    this.#name = name;
    this.#settings = settings;
    // The process may be killed before it opens the file.
    writeFileSync(settings.reports, '');
    const child = guarded(
      fork(program, [JSON.stringify(settings)], {
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
        execArgv: ['--enable-source-maps'],
      }),
    );
    this.#child = child;
    child.on('error', () => {});
    child.stderr?.on('data', (data: Buffer) => void this.#errors.push(data.toString()));
    // A process that ends while it starts counts as ready, so that its end is found.
    child.once('close', (code, signal) => (this.end = code ?? signal ?? ''));
    this.#ended = once(child, 'close');
    this.ready = Promise.race([once(child, 'message'), this.#ended]);
  }

  send(command: WorkerCommand): void {
    // A process that is dying reads nothing.
    if (this.#child.connected) this.#child.send(command, () => {});
  }

  async kill(): Promise<void> {
    this.#wasKilled = true;
    await endProcess(this.#child);
    await this.#ended;
  }

  /** Sends a signal that stops or continues the process. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.end === undefined) this.#child.kill(name);
  }

  /** Waits for the end, which is a failure unless its exit code is 0. */
  async finish(): Promise<void> {
    await this.#ended;
    if (this.end !== 0) throw new Error(`${this.#name} has ended with ${this.end}: ${this.#errors.join('')}`);
  }

  life(): Life {
    return { name: this.#name, reports: readReports(this.#settings.reports), wasKilled: this.#wasKilled };
  }
}
