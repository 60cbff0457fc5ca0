/** `npm run api:update`: writes the API reports of the built package into this folder. */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPORTS, reports } from './report.js';

const written = await reports(process.cwd());
for (const file of readdirSync(REPORTS))
  if (file.endsWith('.api.md') && !written.has(file)) rmSync(join(REPORTS, file));
for (const [file, text] of written) writeFileSync(join(REPORTS, file), text);
console.log([...written.keys()].map((file) => join(REPORTS, file)).join('\n'));
