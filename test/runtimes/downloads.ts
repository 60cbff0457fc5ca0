/**
 * Programs and libraries of the npm registry that only some checks need. Each is downloaded once, in a fixed version,
 * into `.cache` beside this file.
 */
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { npm } from '../support/commands.js';
import type { Download } from './runtimes.js';

/** npm runs scripts where package.json is. */
const root = process.cwd();

/** The folder of the downloads. */
export const cache: string = join(root, 'test/runtimes/.cache');

/** Downloads a package into a folder, which has a temporary name until the download is complete. */
async function download(name: string, folder: string): Promise<void> {
  const partial = `${folder}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  console.log(`Downloading ${name}`);
  await npm(
    `downloading ${name} from the npm registry`,
    partial,
    'install',
    '--prefix',
    partial,
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-package-lock',
    name,
  );
  await rename(partial, folder);
}

/** The downloads in progress: two runtimes may need the same package. */
const downloads = new Map<string, Promise<void>>();

/** The path of the file of a download. Downloads the package if it is missing. */
export async function fetched({ package: name, version, file }: Download): Promise<string> {
  const folder = join(cache, `${name.replace('/', '-')}-${version}`);
  if (downloads.has(folder) || !existsSync(folder)) {
    const done = downloads.get(folder) ?? download(`${name}@${version}`, folder);
    downloads.set(folder, done);
    await done;
  }
  const path = join(folder, 'node_modules', name, file);
  if (!existsSync(path))
    throw new Error(`${relative(root, path)} is missing: remove ${relative(root, folder)} to fetch it anew`);
  return path;
}
