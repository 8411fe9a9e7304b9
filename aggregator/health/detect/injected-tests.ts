import { FleetError } from '#shared/errors/fleet-error.ts';
import type { IncidentTracker, Subject } from './incident-tracker.ts';
import type { NodeDetection } from './node-detection.ts';

/** A test anomaly that an operator asks for, on the GPU of a UUID, or of a node and an index. */
export interface TestAnomaly {
  readonly uuid?: string;
  readonly node?: string;
  readonly gpu?: string;
  /** Canonical metric that it is said to be of. */
  readonly metric: string;
  /** 1 is the threshold. */
  readonly strength: number;
  readonly seconds: number;
}

const MAX_TESTS = 100;
const LONGEST_SECONDS = 86_400;
const MOST_STRENGTH = 100;

interface Running {
  readonly subject: Subject;
  readonly test: TestAnomaly;
  readonly untilMs: number;
}

/** Tests that run: found again at each `advance` until their time is up, and over with it. */
export class InjectedTests {
  #running: Running[] = [];

  /** Throws `not_found`, `invalid_input`, `resource_exhausted`. */
  begin(test: TestAnomaly, nodes: Iterable<NodeDetection>, nowMs: number): Subject {
    if (!(test.strength >= 1 && test.strength <= MOST_STRENGTH))
      throw refused(test, `its strength must be 1 to ${MOST_STRENGTH}`);
    if (!(test.seconds > 0 && test.seconds <= LONGEST_SECONDS))
      throw refused(test, `it must last 1 to ${LONGEST_SECONDS} seconds`);
    if (this.#running.length >= MAX_TESTS)
      throw new FleetError('resource_exhausted', `Cannot inject "${test.metric}": ${MAX_TESTS} tests run`);
    const subject = subjectOf(test, nodes);
    this.#running.push({ subject, test, untilMs: nowMs + test.seconds * 1000 });
    return subject;
  }

  advance(nowMs: number, tracker: IncidentTracker): void {
    if (this.#running.length === 0) return;
    const over = this.#running.filter(({ untilMs }) => nowMs > untilMs);
    this.#running = this.#running.filter(({ untilMs }) => nowMs <= untilMs);
    for (const { subject } of over)
      if (!this.#running.some((other) => other.subject.uuid === subject.uuid))
        tracker.endTest(subject.uuid, nowMs);
    for (const { subject, test } of this.#running) {
      const { metric: signal, strength } = test;
      const finding = {
        detector: 'level',
        signal,
        value: Number.NaN,
        expected: Number.NaN,
        strength,
      } as const;
      tracker.add(subject, finding, nowMs, nowMs, true);
    }
  }
}

function subjectOf(test: TestAnomaly, nodes: Iterable<NodeDetection>): Subject {
  for (const { source, rows } of nodes) {
    if (test.node !== undefined && source.node !== test.node) continue;
    for (const { gpu, uuid, model } of rows.gpus) {
      if (test.uuid === undefined ? test.node !== undefined && gpu === test.gpu : uuid === test.uuid)
        return { source, gpu, uuid, model };
    }
  }
  const whom = test.uuid ?? `GPU ${test.gpu} of node ${test.node}`;
  throw new FleetError('not_found', `Cannot inject "${test.metric}": ${whom} is not heard`);
}

function refused(test: TestAnomaly, why: string): FleetError {
  return new FleetError('invalid_input', `Cannot inject "${test.metric}": ${why}`);
}
