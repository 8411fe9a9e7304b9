import type { Detection, SourceKind } from '../source-kind.ts';
import { PrometheusCollector } from './collector.ts';
import type { PrometheusSettings } from './settings.ts';

/** A collector for each target: one that is slow or gone delays no other. */
export const kind: SourceKind<PrometheusSettings> = {
  async detect({ targets }): Promise<Detection> {
    if (targets.length === 0) return { found: false, why: 'no targets are configured' };
    return { found: true, what: `${targets.length} targets: ${targets.map(({ name }) => name).join(', ')}` };
  },
  create({ targets }, { intervalMs, clock, logger }) {
    return targets.map(
      (target) =>
        new PrometheusCollector({ target, intervalMs: target.interval ?? intervalMs, clock, logger }),
    );
  },
};
