/** `npm run docs`: writes the API reference of the built package into the folder `docs`. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { faults, readApi } from './model.js';
import { pages } from './pages.js';

const folder = 'docs';
const api = readApi(process.cwd());
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
for (const [file, html] of pages(api)) writeFileSync(join(folder, file), html);
const found = faults(api);
for (const fault of found) console.error(fault);
console.log(`${folder}/index.html: ${api.entries.map(({ name, items }) => `${name} (${items.length})`).join(', ')}`);
if (found.length > 0) process.exitCode = 1;
