import { accuracy } from './accuracy/accuracy.ts';
import type { BenchCase } from './bench-case.ts';
import { agent } from './macro/agent.ts';
import { alert } from './macro/alert.ts';
import { catchup } from './macro/catchup.ts';
import { e2e } from './macro/e2e.ts';
import { ingest } from './macro/ingest.ts';
import { streams } from './macro/streams.ts';
import { trickle } from './macro/trickle.ts';
import { wire } from './macro/wire.ts';
import { buffer } from './micro/buffer.ts';
import { codec } from './micro/codec.ts';
import { health } from './micro/health.ts';
import { tickStream } from './micro/tick-stream.ts';
import { peers } from './peers/peers.ts';

/** The one list of cases. */
export const CASES: readonly BenchCase[] = [
  wire,
  codec,
  buffer,
  health,
  ingest,
  streams,
  trickle,
  e2e,
  catchup,
  agent,
  alert,
  peers,
  accuracy,
  tickStream,
];
