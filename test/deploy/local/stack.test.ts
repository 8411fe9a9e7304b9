import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Part, Stack, showEnd } from '../../../deploy/local/stack.ts';
import { freePort } from '../../support/ports.ts';
import { tempDir } from '../../support/temp.ts';

/** A part that serves /readyz on `port`, says when it is asked to stop, and (stubborn) does not. */
function part(
  name: string,
  stage: number,
  port: number,
  options: { orders: string; stubborn?: boolean },
): Part {
  const script = `
    import { createServer } from 'node:http';
    import { appendFileSync } from 'node:fs';
    const server = createServer((request, response) => {
      if (request.url === '/die') { console.error('dying words'); process.exit(7); }
      response.end('ok');
    }).listen(${port}, '127.0.0.1');
    process.on('SIGTERM', () => {
      appendFileSync(${JSON.stringify(options.orders)}, ${JSON.stringify(`${name}\n`)});
      if (!${options.stubborn ?? false}) process.exit(0);
    });`;
  return {
    name,
    stage,
    command: process.execPath,
    args: ['--input-type=module', '--eval', script],
    readyUrls: [`http://127.0.0.1:${port}/readyz`],
  };
}

const gone = (port: number): Promise<unknown> => fetch(`http://127.0.0.1:${port}/`).catch(() => 'gone');
const never = new AbortController().signal;

// Lost without it: VictoriaMetrics stops before the aggregator, and the last samples of every Ctrl-C are lost.
test('stops in reverse order of the stages, and kills what does not stop', async () => {
  await using dir = tempDir('stack');
  const orders = join(dir.path, 'orders');
  const ports = [await freePort(), await freePort(), await freePort()] as const;
  const stack = new Stack(join(dir.path, 'logs'));
  await stack.start([part('store', 0, ports[0], { orders })], never);
  await stack.start([part('aggregator', 1, ports[1], { orders, stubborn: true })], never);
  await stack.start([part('agent', 2, ports[2], { orders })], never);
  await Promise.all([stack[Symbol.asyncDispose](), stack[Symbol.asyncDispose]()]);
  expect(readFileSync(orders, 'utf8')).toBe('agent\naggregator\nstore\n');
  for (const port of ports) expect(await gone(port)).toBe('gone');
});

// Lost without it: a stack that runs on without its aggregator, and nobody is told.
test('a part that dies is named, with how it ended and its last words', async () => {
  await using dir = tempDir('stack');
  const port = await freePort();
  await using stack = new Stack(join(dir.path, 'logs'));
  await stack.start([part('aggregator', 1, port, { orders: join(dir.path, 'orders') })], never);
  await gone(port);
  await fetch(`http://127.0.0.1:${port}/die`).catch(() => undefined);
  const end = await stack.ended;
  expect(showEnd(end)).toBe('aggregator ended (status 7)');
  expect(end.lastLines).toBe('dying words');
  expect(readFileSync(join(dir.path, 'logs', 'aggregator.log'), 'utf8')).toBe('dying words\n');
});

test('a part that ends before it is ready fails the start, with its words; one that cannot run at all too', async () => {
  await using dir = tempDir('stack');
  await using stack = new Stack(dir.path);
  const bad: Part = {
    name: 'agent',
    stage: 0,
    command: process.execPath,
    args: ['--eval', 'console.error("bad configuration"); process.exit(2)'],
    readyUrls: [`http://127.0.0.1:${await freePort()}/readyz`],
  };
  const error = await stack.start([bad], never).catch((thrown: Error) => thrown);
  expect(String((error as Error).cause)).toMatch(/agent ended \(status 2\)\nbad configuration/);
});

test('an abort while waiting for a part ends the wait', async () => {
  await using dir = tempDir('stack');
  await using stack = new Stack(dir.path);
  const stop = new AbortController();
  const slow: Part = {
    name: 'slow',
    stage: 0,
    command: process.execPath,
    args: ['--eval', 'setInterval(() => {}, 1000)'],
    readyUrls: [`http://127.0.0.1:${await freePort()}/readyz`],
  };
  const started = stack.start([slow], stop.signal);
  stop.abort();
  await expect(started).rejects.toThrow(/abort/i);
});
