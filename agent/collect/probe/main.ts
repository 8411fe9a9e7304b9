import { readSync, writeSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { ANSWER_FD, FrameKind, HEADER_BYTES, REQUEST_BYTES, SLOT_BYTES } from './frames.ts';
import type { LibraryAnswer, OpenLibrary } from './probed-library.ts';

/*
 * A probe's child: `main.ts <module> <options as JSON>`. Reads requests from standard input and answers on
 * ANSWER_FD, all blocking: there is nothing else to do, and no event loop costs nothing. It ends when the pipe
 * closes, whatever became of the parent. SIGTERM keeps its default, so that it also works inside the library.
 */

const REQUEST_FD = 0;
const [module = '', options = 'null'] = process.argv.slice(2);
const { open } = (await import(module)) as { open: OpenLibrary };
const library = open(JSON.parse(options));
// Ended by a signal, it would not keep what it compiled for the next start.
flushCompileCache();

const request = Buffer.alloc(REQUEST_BYTES);
let out = Buffer.alloc(4096);

while (readRequest()) {
  const answer = library.read(request.readUInt8(4));
  send(pack(answer, request.readUInt32LE(0), request.readUInt8(4)));
  if ('failure' in answer && answer.end) break;
}

function readRequest(): boolean {
  for (let got = 0; got < REQUEST_BYTES; ) {
    const bytes = readSync(REQUEST_FD, request, got, REQUEST_BYTES - got, null);
    if (bytes === 0) return false;
    got += bytes;
  }
  return true;
}

/** One buffer for all frames of an answer: one write, one wake-up of the parent. */
function pack(answer: LibraryAnswer, id: number, group: number): number {
  if ('failure' in answer) return frame(0, FrameKind.Failure, id, group, answer.state, answer.failure);
  const { description, values, states } = answer;
  const at = description ? frame(0, FrameKind.Description, id, group, 0, JSON.stringify(description)) : 0;
  const size = values.length * SLOT_BYTES;
  head(at, size, FrameKind.Reading, id, group, 0);
  const start = at + HEADER_BYTES;
  out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start);
  out.set(states, start + values.byteLength);
  return start + size;
}

function frame(at: number, kind: FrameKind, id: number, group: number, state: number, text: string): number {
  const size = Buffer.byteLength(text);
  head(at, size, kind, id, group, state);
  out.write(text, at + HEADER_BYTES);
  return at + HEADER_BYTES + size;
}

function head(at: number, size: number, kind: FrameKind, id: number, group: number, state: number): void {
  const end = at + HEADER_BYTES + size;
  if (end > out.length) out = Buffer.concat([out], end * 2);
  out.writeUInt32LE(size, at);
  out.writeUInt32LE(id, at + 4);
  out.writeUInt8(kind, at + 8);
  out.writeUInt8(state, at + 9);
  out.writeUInt8(group, at + 10);
  out.writeUInt8(0, at + 11);
}

function send(size: number): void {
  for (let sent = 0; sent < size; ) sent += writeSync(ANSWER_FD, out, sent, size - sent);
}
