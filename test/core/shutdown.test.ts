/** The recipes for SIGTERM in the chapters, each as a program that receives the signal. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, test } from 'vitest';
import { runProgram } from '../support/child-program.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The example of a chapter that handles SIGTERM, with another deadline in milliseconds. */
const recipe = (chapter: string, deadline: number): string => {
  const text = readFileSync(join(root, 'src', chapter, 'README.md'), 'utf8');
  const code = [...text.matchAll(/^```ts\n(.*?)^```$/gms)]
    .map(([, block = '']) => block)
    .find((block) => block.includes("process.once('SIGTERM'"));
  if (code === undefined) return expect.fail(`the chapter ${chapter} has no recipe for SIGTERM`);
  expect(code).toContain('20_000');
  return code.replace('20_000', String(deadline));
};

/**
 * Ten jobs for two slots. The program prints a line when two jobs run, one for each job that ends, and one when it exits
 * by itself.
 */
const jobs = (milliseconds: number): string => `
  let started = 0;
  throttle.configure({ concurrency: 2 });
  for (let job = 1; job <= 10; job++) {
    throttle
      .run(() => {
        if (++started === 2) console.log('ready');
        return new Promise((resolve) => setTimeout(resolve, ${milliseconds}));
      })
      .then(() => console.log('finished'), (error) => console.log(error.name));
  }
  process.once('SIGTERM', () => {
    throttle.acquire().catch((error) => console.log('late:', error.name));
  });
  process.on('exit', () => console.log('exit'));
`;

const count = (output: string, line: string): number => output.split('\n').filter((each) => each === line).length;

for (const chapter of ['core', 'redis']) {
  const env = { REDIS_URL: inject('redisUrl') };

  test(`${chapter}: SIGTERM finishes the queue and the running work, and the process ends by itself`, async () => {
    const program = recipe(chapter, 20_000).replace("'shutdown'", `'shutdown-${Math.random()}'`);
    const child = await runProgram(program + jobs(100), [], env);
    await child.started;
    child.kill('SIGTERM');
    const { code, output, errors } = await child.ended;
    expect([code, errors]).toEqual([0, '']);
    expect(count(output, 'finished')).toBe(10);
    expect(count(output, 'late: ThrottleClosedError')).toBe(1);
    expect(output.trimEnd().endsWith('exit')).toBe(true);
  });

  test(`${chapter}: after the deadline, the rest of the queue is refused and the running work finishes`, async () => {
    const program = recipe(chapter, 100).replace("'shutdown'", `'shutdown-${Math.random()}'`);
    const child = await runProgram(program + jobs(2_000), [], env);
    await child.started;
    child.kill('SIGTERM');
    const { code, output, errors } = await child.ended;
    expect([code, errors]).toEqual([0, '']);
    expect([count(output, 'finished'), count(output, 'ThrottleClosedError')]).toEqual([2, 8]);
    expect(output.trimEnd().endsWith('exit')).toBe(true);
  });
}

test('core: a job that hangs ends with the process, by the exit code 1', async () => {
  const program = recipe('core', 100).replace('25_000', '300');
  // The promise keeps no process alive: without the last timer, the process would end with the exit code 0.
  const child = await runProgram(
    `${program}
    throttle.run(() => new Promise(() => console.log('ready')));
    const producer = setTimeout(() => {}, 60_000);
    process.once('SIGTERM', () => clearTimeout(producer));`,
    [],
  );
  await child.started;
  child.kill('SIGTERM');
  const { code, errors } = await child.ended;
  expect([code, errors]).toEqual([1, '']);
});

test('http: SIGTERM finishes the accepted requests, and refuses later ones on open connections with 503', async () => {
  const program = `${recipe('http', 20_000)
    .replace('new Throttle(Infinity, 50)', 'new Throttle(Infinity, 1)')
    .replace("res.end('hello\\n')", "setTimeout(() => res.end('hello'), 300)")}
    import { Agent, get } from 'node:http';
    const agent = new Agent({ keepAlive: true, maxSockets: 3 });
    const call = (port) => new Promise((resolve, reject) => {
      get({ port, agent }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      }).on('error', reject);
    });
    server.listen(0, async () => {
      const { port } = server.address();
      const accepted = [call(port), call(port), call(port)];
      accepted[0].then(async () => console.log('late:', await call(port)));
      while (gate.waiting < 2) await new Promise((resolve) => setTimeout(resolve, 5));
      console.log('ready');
      console.log('accepted:', (await Promise.all(accepted)).join(' '));
      agent.destroy();
    });`;
  const child = await runProgram(program, []);
  await child.started;
  child.kill('SIGTERM');
  const { code, output, errors } = await child.ended;
  expect([code, errors]).toEqual([0, '']);
  expect(output.trimEnd().split('\n').toSorted()).toEqual(['accepted: 200 200 200', 'late: 503', 'ready']);
});
