import { type Counter, counter, gauge, type Registry } from '#shared/instruments/registry.ts';
import type { Block, Source } from '#shared/model/block.ts';
import type { Clock } from '#shared/model/clock.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Anomaly, DetectorName, Finding } from './anomaly.ts';
import { DetectionLimits } from './detection-limits.ts';
import { type DetectionSettings, defaultDetectionSettings } from './detection-settings.ts';
import { type AnomalyListener, IncidentTracker, type Subject } from './incident-tracker.ts';
import { InjectedTests, type TestAnomaly } from './injected-tests.ts';
import { type FindingSink, NodeDetection, type NodeGpu } from './node-detection.ts';

export interface DetectionEngineOptions {
  readonly clock: Clock;
  readonly registry: Registry;
  readonly settings?: DetectionSettings;
  /**
   * Most series watched at once; 2,000,000 where not given: 60,000 GPUs of 33 that are watched (about 1 GB). Beyond it series are
   * refused, and counted.
   */
  readonly maxSeries?: number;
}

/** A node that is not heard for so long is forgotten, with all that was learned of it. */
const FORGET_MS = 24 * 3_600_000;
/** How often all nodes are looked through for silent ones. */
const FORGET_INTERVAL_MS = 60_000;

/**
 * Everything that looks at the samples of GPUs as they pass and says what is unusual about one: level, shift, drift and
 * repetition of gauges after what their load explains, counters that count faster, links and lanes that are gone.
 * What others find (peers, rows) joins the same incidents. Backlog is not looked at.
 */
export class DetectionEngine {
  readonly #clock: Clock;
  readonly #settings: DetectionSettings;
  readonly #maxSeries: number;
  readonly #limits: DetectionLimits;
  readonly #tracker: IncidentTracker;
  readonly #tests = new InjectedTests();
  readonly #nodes = new Map<string, NodeDetection>();
  readonly #bySource = new WeakMap<Source, NodeDetection>();
  readonly #anomalies: Counter<'detector'>;
  readonly #refused: Counter<'reason'>;
  readonly #sink: FindingSink;
  /** The node whose block is looked at. */
  #source: Source | undefined;
  #series = 0;
  #forgotMs = Number.NEGATIVE_INFINITY;

  constructor({ clock, registry, settings, maxSeries = 2_000_000 }: DetectionEngineOptions) {
    this.#clock = clock;
    this.#settings = settings ?? defaultDetectionSettings();
    this.#maxSeries = maxSeries;
    this.#limits = new DetectionLimits(this.#settings);
    this.#tracker = new IncidentTracker({ quietMs: this.#settings.quiet });
    this.#sink = {
      isOpen: (uuid) => this.#tracker.isOpen(uuid),
      anyOpen: () => this.#tracker.open > 0,
      alsoMoved: (uuid, detector, signal, value, expected) => {
        if (this.#settings.detectors[detector] !== false)
          this.#tracker.contribute(uuid, { detector, signal, value, expected, strength: 1 });
      },
      admit: (series) => this.#admit(series),
      found: (gpu, detector, signal, value, expected, strength, atMs) =>
        this.#found(gpu, { detector, signal, value, expected, strength }, atMs),
    };
    this.#anomalies = counter(registry, {
      name: 'gpufleet_anomalies_total',
      help: 'Incidents that began, by the detector that saw them first. Tests are left out.',
      labelNames: ['detector'],
    });
    this.#refused = counter(registry, {
      name: 'gpufleet_detector_refused_total',
      help: 'Series not watched, or findings not kept, because a limit was reached.',
      labelNames: ['reason'],
    });
    this.#tracker.subscribe((anomaly, phase) => {
      if (phase === 'begin' && !anomaly.test)
        this.#anomalies.inc({ detector: anomaly.contributions[0]!.detector });
    });
    this.#instrument(registry);
  }

  evaluate(block: Block): void {
    if (!block.live) return;
    const node = this.#nodeOf(block.source);
    node.heardMs = this.#clock.monotonic();
    this.#source = block.source;
    node.evaluate(block);
  }

  /** What makes the samples that follow incomparable with those before: begin anew instead of raising an alarm. */
  event(source: Source, event: FleetEvent): void {
    const node = this.#nodes.get(keyOf(source));
    if (node === undefined) return;
    const { type, gpu, gpuUuid, timestampMs } = event;
    if (type === 'job_change') node.rearmLoad();
    else if (type === 'clock_step') node.rearm('', '', timestampMs, false);
    else if (REARMING.has(type)) node.rearm(gpu, gpuUuid, timestampMs, true);
  }

  /** What detectors of rows and of peers found of a GPU. */
  findings(source: Source, uuid: string, gpu: string, findings: readonly Finding[], atMs: number): void {
    if (findings.length === 0) return;
    const known = this.#nodes.get(keyOf(source))?.gpuOf(uuid);
    const subject = { source, gpu, uuid, model: known?.model ?? '' };
    for (const finding of findings) this.#add(subject, finding, atMs);
  }

  /** Open incidents, then ended ones. */
  anomalies(): Iterable<Anomaly> {
    return this.#tracker.anomalies();
  }

  anomaliesOf(uuid: string): Iterable<Anomaly> {
    return this.#tracker.anomaliesOf(uuid);
  }

  /** Tells of each incident's begin, changes and end, until the returned function is called. */
  subscribe(listener: AnomalyListener): () => void {
    return this.#tracker.subscribe(listener);
  }

  /**
   * A test: an incident of the GPU that is marked as one wherever it is shown, kept open for `seconds`. Throws
   * `not_found` where no such GPU is heard, `invalid_input` for a strength below 1 or a time over a day,
   * `resource_exhausted` over a hundred tests at once.
   */
  inject(test: TestAnomaly): Subject {
    const nowMs = this.#clock.now();
    const subject = this.#tests.begin(test, this.#nodes.values(), nowMs);
    this.#tests.advance(nowMs, this.#tracker);
    return subject;
  }

  /** Ends the incidents that are quiet, goes on with tests, forgets silent nodes. To be called about once a second. */
  advance(nowMs: number): void {
    this.#tests.advance(nowMs, this.#tracker);
    this.#tracker.advance(nowMs);
    // By a clock that nobody sets: a step of a day must not cost the fleet what was learned of it.
    const now = this.#clock.monotonic();
    if (now - this.#forgotMs < FORGET_INTERVAL_MS) return;
    this.#forgotMs = now;
    for (const [key, node] of this.#nodes) {
      if (now - node.heardMs < FORGET_MS) continue;
      this.#nodes.delete(key);
      this.#series -= node.rows.size;
    }
  }

  #found(gpu: NodeGpu, finding: Finding, atMs: number): void {
    const { uuid, model } = gpu;
    this.#add({ source: this.#source!, gpu: gpu.gpu, uuid, model }, finding, atMs);
  }

  #add(subject: Subject, finding: Finding, atMs: number): void {
    if (this.#settings.detectors[finding.detector] === false) return;
    if (!this.#tracker.add(subject, finding, atMs, this.#clock.now()))
      this.#refused.inc({ reason: 'too_many_incidents' });
  }

  #admit(series: number): boolean {
    if (this.#series + series > this.#maxSeries) {
      this.#refused.inc({ reason: 'too_many_series' }, series);
      return false;
    }
    this.#series += series;
    return true;
  }

  #nodeOf(source: Source): NodeDetection {
    const known = this.#bySource.get(source);
    const key = keyOf(source);
    if (known !== undefined && this.#nodes.get(key) === known) return known;
    const node = this.#nodes.get(key) ?? new NodeDetection(source, this.#limits, this.#sink);
    this.#nodes.set(key, node);
    this.#bySource.set(source, node);
    return node;
  }

  #instrument(registry: Registry): void {
    const tracker = this.#tracker;
    gauge(registry, {
      name: 'gpufleet_anomalies_open',
      help: 'Incidents that last, tests included.',
      collect() {
        this.set(tracker.open);
      },
    });
    const nodes = this.#nodes;
    gauge(registry, {
      name: 'gpufleet_detector_series',
      help: 'Series that are watched, by kind of detector.',
      labelNames: ['detector'],
      collect() {
        const counts: Partial<Record<DetectorName, number>> = { level: 0, frozen: 0, rate: 0 };
        for (const { rows } of nodes.values())
          for (const [detector, series] of rows.counts()) counts[detector] = (counts[detector] ?? 0) + series;
        for (const [detector, series] of Object.entries(counts)) this.set({ detector }, series);
      },
    });
  }
}

/** Events after which nothing of before holds: of the GPU that they name, or of all of the node. */
const REARMING: ReadonlySet<string> = new Set(['gpu_back', 'gpu_reset', 'counter_reset', 'collection_pause']);

function keyOf({ cluster, node }: Source): string {
  return `${cluster}\0${node}`;
}
