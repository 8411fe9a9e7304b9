import { Counter, type CounterConfiguration, Gauge, type GaugeConfiguration, Registry } from 'prom-client';

export { Counter, Gauge, Registry } from 'prom-client';

/** A fresh registry: never the library's global one, so that two agents in one process do not share counters. */
export function createRegistry(): Registry {
  return new Registry();
}

/** A counter of this registry. Names end in _total; every label set is bounded by the caller. */
export function counter<T extends string = never>(
  registry: Registry,
  config: Omit<CounterConfiguration<T>, 'registers'>,
): Counter<T> {
  return new Counter<T>({ ...config, registers: [registry] });
}

/** A gauge of this registry; give `collect` to have it read only when scraped. */
export function gauge<T extends string = never>(
  registry: Registry,
  config: Omit<GaugeConfiguration<T>, 'registers'>,
): Gauge<T> {
  return new Gauge<T>({ ...config, registers: [registry] });
}
