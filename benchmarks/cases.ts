import type { BenchCase } from './bench-case.ts';
import { ingest } from './macro/ingest.ts';
import { streams } from './macro/streams.ts';
import { trickle } from './macro/trickle.ts';
import { wire } from './macro/wire.ts';
import { buffer } from './micro/buffer.ts';
import { codec } from './micro/codec.ts';

/** The one list of cases. */
export const CASES: readonly BenchCase[] = [wire, codec, buffer, streams, trickle, ingest];
