import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { RecordBuffer } from '../../agent/buffer/record-buffer.ts';
import { tempDir } from '../../test/support/temp.ts';
import type { BenchCase, BenchMetrics, BenchOptions } from '../bench-case.ts';
import { median } from '../report.ts';
import { loadTrace, type Trace } from '../trace.ts';

/** Bytes that one read may bring, as the uplink asks for them. */
const READ_BYTES = 64 * 1024;
/** The trace is ten minutes: an hour of it, so that LevelDB's own files and the dictionaries weigh what they do. */
const ROUNDS = 6;
/** A ring that holds them with room to spare: LevelDB is told to free a tenth of it at a time. */
const RING_BYTES = 8 * 2 ** 20;
/** Kept for a full disk, whatever the buffer holds: counted by itself. */
const RESERVE = 'buffer.reserve';

/** The reference trace into the agent's buffer: one record and one fsync for each tick, closed, read back. */
export const buffer: BenchCase = {
  name: 'buffer',
  description:
    'the ticks of a node with 400 series on disk, fsync for each: size, device writes, latency, reading back',
  async run(options: BenchOptions): Promise<BenchMetrics> {
    const trace = repeated(loadTrace('1s', options), options.tiny ? 1 : ROUNDS);
    await using dir = tempDir('bench-buffer');
    const samples = trace.rows.length * trace.dictionary.series.length;
    const { micros, written } = await append(dir.path, trace);
    const diskBytes = folderBytes(dir.path);
    if (written.device === 0)
      options.log(`buffer: ${dir.path} is on no device (tmpfs?): TMPDIR names another`);
    const readRate = await readBack(dir.path, trace);
    return {
      disk_bytes_per_sample: diskBytes / samples,
      compacted_bytes_per_sample: (await compact(dir.path, trace)) / samples,
      ...(written.device > 0 && { device_bytes_per_sample: written.device / samples }),
      ...(written.blocks > 0 && { block_device_bytes_per_sample: written.blocks / samples }),
      append_p50_microseconds: median(micros),
      append_p99_microseconds: micros.sort((a, b) => a - b)[Math.floor(micros.length * 0.99)]!,
      read_samples_per_second: readRate,
      reserve_bytes: statSync(join(dir.path, RESERVE)).size,
    };
  },
};

function repeated(trace: Trace, rounds: number): Trace {
  const { rows, timestamps, dictionary } = trace;
  const roundMs = timestamps.at(-1)! - timestamps[0]! + dictionary.intervalMs;
  return {
    ...trace,
    rows: Array.from({ length: rounds }, () => rows).flat(),
    timestamps: Float64Array.from(
      { length: rounds * rows.length },
      (_, i) => timestamps[i % rows.length]! + Math.floor(i / rows.length) * roundMs,
    ),
  };
}

/** `now` in Unix ms: the trace's ticks are as old as it makes them. */
function open(directory: string, now = Date.now()): Promise<RecordBuffer> {
  return RecordBuffer.open({
    directory,
    machineId: 'bench',
    maxAgeMs: Number.MAX_SAFE_INTEGER,
    maxBytes: RING_BYTES,
    clock: { now: () => now, monotonic: () => performance.now() },
    logger: silentLogger,
    registry: createRegistry(),
  });
}

async function append(directory: string, { dictionary, rows, timestamps }: Trace) {
  const states = new Uint8Array(dictionary.series.length);
  const micros: number[] = [];
  await using records = await open(directory);
  const before = writtenBytes(directory);
  for (let i = 0; i < rows.length; i++) {
    const began = performance.now();
    await records.appendTick({ dictionary, timestampMs: timestamps[i]!, values: rows[i]!, states }).stored;
    micros.push((performance.now() - began) * 1000);
  }
  const after = writtenBytes(directory);
  return { micros, written: { device: after.device - before.device, blocks: after.blocks - before.blocks } };
}

/**
 * `device`: what this process made the kernel write, in whole pages. `blocks`: what the block device of the folder
 * was told to write, with the file system's journal, and with what other programs wrote meanwhile; 0 where the
 * folder is not on one.
 */
function writtenBytes(directory: string): { device: number; blocks: number } {
  const [, device] = /^write_bytes: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))!;
  const { dev } = statSync(directory);
  const [major, minor] = [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)];
  // The tenth column is sectors written, of 512 bytes (Documentation/admin-guide/iostats.rst).
  const line = new RegExp(`^ *${major} +${minor} \\S+(?: \\d+){6} (\\d+)`, 'm');
  const [, sectors = '0'] = line.exec(readFileSync('/proc/diskstats', 'utf8')) ?? [];
  return { device: Number(device), blocks: Number(sectors) * 512 };
}

function folderBytes(directory: string): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }))
    if (entry.isFile() && entry.name !== RESERVE) bytes += statSync(join(entry.parentPath, entry.name)).size;
  return bytes;
}

/** As an agent whose backlog has grown old does it; returns what lies on the disk after that. */
async function compact(directory: string, { timestamps }: Trace): Promise<number> {
  const records = await open(directory, timestamps.at(-1)! + 3_600_000);
  try {
    while (await records.compact());
  } finally {
    await records[Symbol.asyncDispose]();
  }
  return folderBytes(directory);
}

/** Every tick, from a buffer opened anew; throws where one is missing. */
async function readBack(directory: string, { dictionary, rows }: Trace): Promise<number> {
  await using records = await open(directory);
  const run = records.runs[0]!;
  const began = performance.now();
  let next = run.first;
  while (next <= run.last) {
    const found = await records.read(run, next, run.last, READ_BYTES);
    for (const record of found) if (!record.ok) throw new Error(`record ${record.sequence}: ${record.why}`);
    next = found.at(-1)!.sequence + 1;
  }
  return (rows.length * dictionary.series.length) / ((performance.now() - began) / 1000);
}
