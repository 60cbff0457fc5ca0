/** Runs programs in their own processes. A program is TypeScript text that imports the sources of the package. */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { onTestFinished } from 'vitest';
import { luaForEsbuild } from './lua-loader.js';
import { removePath, temporaryFolder } from './processes.js';

const source = (path: string): string => fileURLToPath(new URL(`../../src/${path}`, import.meta.url));

/** A running program. It is killed when the test finishes. */
export interface Child {
  /** The first line of its output. */
  readonly started: Promise<string>;
  /** Its exit code or the signal that killed it, and its output. */
  readonly ended: Promise<{ code: number | string | null; output: string; errors: string }>;
  /** Closes its standard input. */
  end(): void;
  /** Sends a signal. */
  kill(signal: NodeJS.Signals): void;
}

/** Runs `program` with the given flags of Node. */
export async function runProgram(
  program: string,
  flags: string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Child> {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: fileURLToPath(new URL('../http', import.meta.url)), loader: 'ts' },
    alias: {
      headgate: source('index.ts'),
      'headgate/http': source('http/index.ts'),
      'headgate/redis': source('redis/index.ts'),
    },
    external: ['redis'],
    plugins: [luaForEsbuild],
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    write: false,
  });
  // Linux limits an argument to 128 kB, so the program is a file. From this folder, it finds the packages.
  const cache = source('../node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const folder = temporaryFolder('headgate-program-', cache);
  const file = join(folder, 'program.mjs');
  writeFileSync(file, outputFiles[0]?.text ?? '');
  const child = spawn(process.execPath, [...flags, file], { stdio: 'pipe', env: { ...process.env, ...env } });
  onTestFinished(() => {
    child.kill('SIGKILL');
    removePath(folder);
  });
  let output = '';
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (errors += text));
  const ended = new Promise<{ code: number | string | null; output: string; errors: string }>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code: code ?? signal, output, errors }));
  });
  const started = new Promise<string>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('\n')) resolve(output.slice(0, output.indexOf('\n')));
    });
  });
  const failed = ended.then(({ code }) =>
    Promise.reject(new Error(`the program ended with ${code} before it printed a line: ${errors.slice(-2_000)}`)),
  );
  failed.catch(() => {});
  return {
    started: Promise.race([started, failed]),
    ended,
    end: () => child.stdin.end(),
    kill: (signal) => void child.kill(signal),
  };
}
