import { metricNamed } from '#shared/catalogue/metrics.ts';
import type { Block } from '#shared/model/block.ts';
import type { DetectorName } from './anomaly.ts';
import { GaugeDetector, type GaugeSeries, GaugeTest } from './gauge-detector.ts';
import { gpuOf, signalOf } from './gpu-frame.ts';
import type { ProgramGauge } from './node-program.ts';

/** Gauges whose distribution over their known range is tested: a test costs more than all else of a series. */
const ENTROPY_METRICS: ReadonlySet<string> = new Set([
  'gpu_temperature_celsius',
  'gpu_sm_active_ratio',
  'gpu_fan_ratio',
]);
/** Where silicon and memory of a GPU are, °C: narrower than what the catalogue lets pass. */
const CELSIUS = [0, 110] as const;

/**
 * Every gauge of a node's GPUs, each against its own past alone. Gauges follow jobs, so what this finds opens no incident: it
 * joins one that is open, to show what else moved.
 */
export class BackgroundGauges {
  readonly #slots: Int32Array;
  readonly #detector: GaugeDetector;
  readonly #strengths: Float32Array;

  constructor(gauges: readonly ProgramGauge[]) {
    this.#slots = Int32Array.from(gauges, ({ slot }) => slot);
    this.#strengths = new Float32Array(gauges.length);
    // The metrics alone: the detector keeps what describes its series.
    const metrics = gauges.map(({ metric }) => metric);
    this.#detector = new GaugeDetector(gauges.length, { describe: (i) => describe(metrics[i]!) });
  }

  step({ values, states }: Block): void {
    this.#detector.step(values, states, this.#slots, this.#strengths);
  }

  /** Tells of each gauge that was unusual in the last step. */
  tell(
    block: Block,
    found: (uuid: string, detector: DetectorName, signal: string, value: number, expected: number) => void,
  ): void {
    for (let i = 0; i < this.#slots.length; i++) {
      if (!(this.#strengths[i]! >= 1)) continue;
      const slot = this.#slots[i]!;
      const { name, labels } = block.dictionary.series[slot]!;
      const uuid = gpuOf(block.source, labels)!.uuid;
      const detector = this.#detector.tests[i] === GaugeTest.Entropy ? 'entropy' : 'level';
      found(uuid, detector, signalOf(name, labels), block.values[slot]!, this.#detector.expected(i));
    }
  }
}

function describe(metric: string): GaugeSeries {
  const entropy = ENTROPY_METRICS.has(metric);
  const known = metricNamed(metric);
  const [low, high] =
    metric === 'gpu_temperature_celsius' ? CELSIUS : [known?.min ?? Number.NaN, known?.max ?? Number.NaN];
  return { low, high, resolution: known === undefined ? 0 : 10 ** -known.decimals, entropy };
}
