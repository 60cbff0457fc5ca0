/**
 * What telling costs while nobody listens: a throttle with its channels, and one in which they were replaced by nothing
 * when it was built. Both are built here, in the same way.
 */
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Throttle } from 'headgate';

const SILENT =
  'export class EventPublisher { queued() {} granted() {} handedOver() {} released() {} refused() {} paused() {} }';

/** The class, with channels or without. */
export async function buildThrottle(channels: boolean): Promise<typeof Throttle> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../../src/core/throttle.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    plugins: channels
      ? []
      : [
          {
            name: 'silence',
            setup: (bundle) => bundle.onLoad({ filter: /src\/channels\.ts$/ }, () => ({ contents: SILENT })),
          },
        ],
  });
  const module: unknown = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0]?.text ?? '')}`);
  return (module as { Throttle: typeof Throttle }).Throttle;
}
