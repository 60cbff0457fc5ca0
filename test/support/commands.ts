/** Commands that a test program runs to their end, and the packed package. npm runs the programs where package.json is. */
import { execFile, type ExecFileException, type ExecFileOptions } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { guarded } from './processes.js';

/** The limit for a command that may download, on a slow network. */
const LIMIT_MS = 900_000;

/** The environment without the variables that npm sets for its scripts. */
export const commandEnv: NodeJS.ProcessEnv = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^npm_(?:config_(?:local_|global_)?prefix|package_|lifecycle_)/.test(name),
  ),
);

/** Runs a command to its end, and resolves with its output. The error of a failed command names the step. */
export async function execute(
  step: string,
  command: string,
  args: readonly string[],
  options: ExecFileOptions = {},
): Promise<string> {
  const timeout = options.timeout ?? LIMIT_MS;
  const running = promisify(execFile)(command, args, {
    env: commandEnv,
    maxBuffer: 1e8,
    ...options,
    timeout,
    encoding: 'utf8',
  });
  guarded(running.child);
  try {
    return (await running).stdout;
  } catch (error) {
    const { message, killed } = error as ExecFileException;
    throw new Error(`${step}: ${killed === true ? `took more than ${timeout / 1000} s. ` : ''}${message.trim()}`, {
      cause: error,
    });
  }
}

export const npm = (step: string, cwd: string, ...args: string[]): Promise<string> =>
  execute(step, 'npm', args, { cwd });

/** Packs the built package into `folder`, and resolves with the path of the file. */
export async function packPackage(folder: string): Promise<string> {
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const [tarball] = JSON.parse(await npm('packing headgate', process.cwd(), ...args)) as { filename: string }[];
  if (tarball === undefined) throw new Error('npm pack made nothing');
  return join(folder, tarball.filename);
}

/** Ends the process of a program after its checks: with exit code 0 if all of them have passed. */
export function exitAfter(checks: Promise<boolean>): void {
  checks.then(
    (passed) => (process.exitCode = passed ? 0 : 1),
    (error: Error) => {
      console.error(error.message);
      console.log('0 passed, 1 failed');
      process.exitCode = 1;
    },
  );
}
