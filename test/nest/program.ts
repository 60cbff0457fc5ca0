/**
 * Runs the checks with the version of Nest that Node finds: bundle this file with Nest as an external package, and run
 * the bundle beside another `node_modules`.
 */
import { checks } from './checks.js';
import { type Platform, runCheck } from './site.js';

let failures = 0;
for (const platform of ['express', 'fastify'] satisfies Platform[]) {
  for (const check of checks) {
    try {
      if (process.argv[2] !== undefined) console.log(platform, check.name);
      await runCheck(check, platform);
    } catch (error) {
      failures++;
      console.error(`${platform}: ${check.name}`, error);
    }
  }
}
console.log(failures === 0 ? `${checks.length} checks passed on each platform` : `${failures} checks failed`);
process.exit(failures === 0 ? 0 : 1);
