import type { BenchCase } from './bench-case.ts';
import { ingest } from './macro/ingest.ts';
import { codec } from './micro/codec.ts';

/** The one list of cases. */
export const CASES: readonly BenchCase[] = [codec, ingest];
