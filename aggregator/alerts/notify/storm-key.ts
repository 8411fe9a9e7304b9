/** The key of the group that stands for a storm: the incident that it opens, and that ends with its last group. */
export const STORM_KEY = 'storm';
