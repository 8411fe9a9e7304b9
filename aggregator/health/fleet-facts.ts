/**
 * What only a look at its peers can say about a GPU. Plain input of the score: whoever compares GPUs gives it, and
 * gives it again within FACTS_FRESH_MS. A fact that is not given is not known.
 */
export interface FleetFacts {
  /** Robust z of its temperature against the siblings of its node at equal power, after the baseline of its slot. */
  readonly temperatureZ?: number | undefined;
  /** SM clock as a share of the siblings' median, while busy and not held by a power cap. */
  readonly clockRatio?: number | undefined;
  /** Work for each watt against the peers of its job, beyond what was always so of it: -0.1 is 10 % less. */
  readonly perfPerWattResidual?: number | undefined;
  /** Robust z of its power without work, or at its clock, against its model's fleet. */
  readonly idlePowerZ?: number | undefined;
  /** Its time for a step over the median of its job: 1.1 is 10 % slower. */
  readonly stepTimeRatio?: number | undefined;
  /** 99th percentile of corrected ECC errors a day over its model's fleet. */
  readonly correctedEccFleetP99PerDay?: number | undefined;
  /** Probability of its failure within 30 days, over that of its model's fleet. */
  readonly failureProbabilityRatio?: number | undefined;
}

/** Peers are compared every few minutes at most; a fact that nobody renewed for so long says nothing of now. Own judgement. */
export const FACTS_FRESH_MS = 15 * 60_000;
