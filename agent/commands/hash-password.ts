import { hashPassword } from '../expose/password.ts';
import type { Terminal } from './terminal.ts';

/** Prints what exporter.users takes. */
export async function printPasswordHash(
  terminal: Terminal,
  input: AsyncIterable<string | Buffer>,
): Promise<number> {
  let text = '';
  for await (const chunk of input) {
    text += chunk;
    if (text.includes('\n') || text.length > 4096) break;
  }
  terminal.write(`${await hashPassword(text.split(/\r?\n/, 1)[0]!)}\n`);
  return 0;
}
