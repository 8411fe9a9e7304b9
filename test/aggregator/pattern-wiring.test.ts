import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Source } from '#shared/model/block.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import { Assessment } from '../../aggregator/assessment.ts';
import { AssetBook } from '../../aggregator/enrich/asset-book.ts';
import { defaultDetectionSettings } from '../../aggregator/health/detect/detection-settings.ts';
import { builtInProfiles } from '../../aggregator/health/profiles/load-profiles.ts';
import { seededRandom } from '../support/random.ts';
import { blockOf, dictionaryOf, ManualClock, series } from './alerts/block-of.ts';
import { FakeShelf } from './ledger/open-shelf.ts';

const DAY_MS = 86_400_000;
const NODES = 32;

/** An assessment of 32 nodes in racks of eight, with two GPUs each; nodes 3, 11, 19, 27 and 30 run job 42. */
async function open() {
  const clock = new ManualClock();
  const shelf = new FakeShelf();
  const assessment = await Assessment.open({
    ...{ clock, logger: silentLogger, registry: createRegistry(), shelf },
    random: seededRandom(1),
    assets: await AssetBook.open(undefined),
    profiles: builtInProfiles(),
    detection: defaultDetectionSettings(),
    onEvent: () => {},
  });
  const nodes = Array.from({ length: NODES }, (_, n) => {
    const source: Source = { cluster: 'east', node: `n${n}`, externalLabels: [['rack', `r${n >> 3}`]] };
    const ofJob = [3, 11, 19, 27, 30].includes(n);
    const dictionary = dictionaryOf(
      [0, 1].flatMap((gpu) => {
        const labels = [
          ['gpu', String(gpu)],
          ['uuid', `GPU-${n}-${gpu}`],
        ] as const;
        const job = [
          ['gpu', String(gpu)],
          ['slurm_job_id', ofJob ? '42' : `7${n}`],
          ['uuid', `GPU-${n}-${gpu}`],
        ] as const;
        const ecc = [...labels, ['scope', 'volatile'], ['type', 'uncorrected']] as const;
        return [
          series('gpu_power_watts', labels),
          series(
            'gpu_ecc_errors_total',
            [...ecc].sort(([a], [b]) => (a < b ? -1 : 1)),
          ),
          series('gpu_job_info', job),
          series('gpu_temperature_margin_celsius', labels),
          series('gpu_utilization_ratio', [...labels.slice(0, 1), ['task', 'general'], ...labels.slice(1)]),
        ];
      }),
    );
    return { source, dictionary };
  });
  const tick = (eccOf = -1): void => {
    clock.ms += 30_000;
    for (const [n, { source, dictionary }] of nodes.entries()) {
      const ecc = n === eccOf ? 1 : 0;
      assessment.evaluate(blockOf(dictionary, clock.ms, [300, ecc, 1, 20, 1, 300, 0, 1, 20, 1], { source }));
    }
  };
  const event = (n: number, type: string, gpu = '', gpuUuid = ''): void => {
    const told: FleetEvent = { type, timestampMs: clock.ms, gpu, gpuUuid, text: '', attributes: {} };
    assessment.event(nodes[n]!.source, told);
  };
  const sentences = async (): Promise<string[]> => {
    await assessment.findPatterns();
    return assessment.patterns.patterns().map(({ sentence }) => sentence);
  };
  tick();
  return { clock, shelf, assessment, tick, event, sentences };
}

describe('patterns hear of', () => {
  // Lost without it: five nodes in five racks fail at once, and nobody says that they run the same job.
  it('the job that nodes share', async () => {
    const { event, sentences } = await open();
    for (const n of [3, 11, 19, 27, 30]) event(n, 'kernel_error');
    expect(await sentences()).toEqual([
      expect.stringMatching(/^5 of 5 nodes on job east\/42 had kernel error within/),
    ]);
  });

  it('drains and repairs: who was drained again after its repair is a lemon, however often it is marked', async () => {
    const { clock, assessment, tick, event, sentences } = await open();
    const name = { cluster: 'east', node: 'n5' };
    const drain = { state: 'drained', by: 'ada', why: 'Xid 79' } as const;
    await assessment.operators.set(name, drain);
    clock.ms += DAY_MS;
    tick();
    await assessment.operators.set(name, { ...drain, why: 'still' });
    await assessment.operators.clear(name);
    for (const gpu of ['0', '1']) event(5, 'repair', gpu, `GPU-5-${gpu}`);
    event(5, 'operator_clear', '0', 'GPU-5-0');
    await assessment.operators.set(name, { ...drain, state: 'maintenance' });
    clock.ms += 2 * DAY_MS;
    tick();
    await assessment.operators.set(name, drain);
    expect(await sentences()).toEqual([
      'Node east/n5 had 2 drains, 1 repair in 28 days; once within a week of a repair.',
    ]);
  });

  it('uncorrected memory errors, once, and of the GPU that had them', async () => {
    const { shelf, assessment, tick } = await open();
    tick();
    tick(4);
    await assessment.findPatterns();
    tick(4);
    await assessment.findPatterns();
    await assessment.patterns.snapshot(shelf);
    const noted = [...shelf.values]
      .filter(([key]) => key.includes('/events/'))
      .flatMap(([, chunk]) => chunk as string[][]);
    expect(noted.filter(([, , , , code]) => code === 'ecc_uncorrected').map(([, , , gpu]) => gpu)).toEqual([
      'GPU-4-0',
    ]);
  });

  it('the figures of every GPU at work', async () => {
    const { assessment } = await open();
    await assessment.findPatterns();
    expect(assessment.patterns.counts.figures).toBe(2 * NODES);
  });
});
