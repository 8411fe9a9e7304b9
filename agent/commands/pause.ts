import { askAgent } from '../control/control-client.ts';
import { showAge, type Terminal } from './terminal.ts';

/** Letting go of a device waits for the read that is under way, which may take its whole deadline. */
const LET_GO_TIMEOUT_MS = 60_000;

/** Returns once every device is let go. */
export async function pause(terminal: Terminal, socket: string, ms: number): Promise<number> {
  await askAgent(socket, { command: 'pause', ms }, LET_GO_TIMEOUT_MS);
  const until = new Date(terminal.clock.now() + ms).toISOString().replace(/\.\d+Z$/, 'Z');
  terminal.write(`paused for ${showAge(ms)}, until ${until}; no source holds a GPU now\n`);
  return 0;
}

export async function resume(terminal: Terminal, socket: string): Promise<number> {
  await askAgent(socket, { command: 'resume' }, LET_GO_TIMEOUT_MS);
  terminal.write('collecting goes on\n');
  return 0;
}

/** What SIGHUP does, with the answer. */
export async function reload(terminal: Terminal, socket: string): Promise<number> {
  for (const line of await askAgent(socket, { command: 'reload' }, LET_GO_TIMEOUT_MS))
    terminal.write(`${line}\n`);
  return 0;
}
