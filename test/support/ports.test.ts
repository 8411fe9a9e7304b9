import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { freePort } from './ports.ts';

const MODULE = new URL('./ports.ts', import.meta.url).href;

async function taken(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let i = 0; i < count; i++) ports.push(await freePort());
  return ports;
}

test('no port is given twice, within a process or to two: among 20,000 some of these would meet by chance', async () => {
  const ours = await taken(500);

  const code = `const { freePort } = await import('${MODULE}');
    for (let i = 0; i < 500; i++) console.log(await freePort());`;
  const theirs = execFileSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map(Number);

  expect(new Set([...ours, ...theirs]).size).toBe(1000);
});

test('a port is free to listen on, and not one that the system hands out by itself', async () => {
  const port = await freePort();
  expect(port).toBeLessThan(32_768);

  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  await new Promise((resolve) => server.close(resolve));
});
