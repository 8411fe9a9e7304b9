/**
 * Scores that the benchmark's own scoreboard gives other detectors: numenta/NAB, README and results/final_results.json at
 * commit ea702d7. Standard, reward low false positives, reward low false negatives; each with its own best threshold.
 */
export const PUBLISHED: readonly (readonly [detector: string, ...scores: [number, number, number]])[] = [
  ['perfect detector', 100, 100, 100],
  ['ARTime', 74.9, 65.1, 80.4],
  ['Numenta HTM', 70.1, 63.1, 74.3],
  ['CAD OSE', 69.9, 67.0, 73.2],
  ['earthgecko Skyline', 58.2, 46.2, 63.9],
  ['KNN CAD', 58.0, 43.4, 64.8],
  ['Relative Entropy', 54.6, 47.6, 58.8],
  ['Random Cut Forest', 51.7, 38.4, 59.7],
  ['Twitter ADVec', 47.1, 33.6, 53.5],
  ['Windowed Gaussian', 39.6, 20.9, 47.4],
  ['Etsy Skyline', 35.7, 27.1, 44.5],
];

/**
 * What a scorer must make of the stored scores of three detectors, to three digits: the same file, unrounded.
 */
export const FIXTURES: readonly (readonly [detector: string, ...scores: [number, number, number]])[] = [
  ['windowedGaussian', 39.65, 20.868, 47.41],
  ['relativeEntropy', 54.643, 47.598, 58.842],
  ['skyline', 35.687, 27.081, 44.481],
];
