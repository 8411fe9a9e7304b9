/** A figure that is followed over months. */
export interface TrendSignal {
  readonly name: string;
  /** What a person calls it. */
  readonly words: string;
  readonly unit: string;
  readonly direction: 'rising' | 'falling';
  /** Where it is bad. Offered as margins to what the device tells, where it tells it, so that one number fits all. */
  readonly threshold: number;
  /** What the threshold means. */
  readonly meaning: string;
}

/**
 * Figures that wear shows in, as offered each hour. Offer temperatures and margins only while the GPU is busy: a
 * trend in its load is no trend in its health. Thresholds are where the score calls the signal failed, unless said.
 */
export const TREND_SIGNALS: readonly TrendSignal[] = [
  {
    // 0: the highest operating temperature (NVML's T.Limit).
    name: 'core_margin',
    words: 'core temperature margin under load',
    unit: '°C',
    direction: 'falling',
    threshold: 0,
    meaning: 'throttling',
  },
  {
    name: 'memory_margin',
    words: 'memory temperature margin under load',
    unit: '°C',
    direction: 'falling',
    threshold: 0,
    meaning: 'throttling',
  },
  {
    // Degrees over the inlet per watt, as a ratio to the GPU's first weeks: +50 %. Own judgement.
    name: 'thermal_resistance',
    words: 'thermal resistance, relative to its baseline,',
    unit: '',
    direction: 'rising',
    threshold: 1.5,
    meaning: 'cooling that no longer works',
  },
  {
    // 8 uncorrectable remaps in one bank, or 512 in all, fail a board (NVIDIA's GPU memory error management); the
    // count is of all banks, so 8 is the earliest moment.
    name: 'remapped_rows',
    words: 'rows remapped for uncorrectable errors',
    unit: 'rows',
    direction: 'rising',
    threshold: 8,
    meaning: 'a board to be replaced',
  },
  {
    // 8 a minute over three minutes in a row is DCGM's limit.
    name: 'pcie_replays_per_minute',
    words: 'PCIe replays',
    unit: '/min',
    direction: 'rising',
    threshold: 8,
    meaning: 'a link at fault',
  },
  {
    // Clock of the SM under load, as a share of the siblings' median. Own judgement.
    name: 'clock_of_siblings',
    words: 'SM clock relative to its siblings',
    unit: '',
    direction: 'falling',
    threshold: 0.85,
    meaning: 'a straggler',
  },
];
