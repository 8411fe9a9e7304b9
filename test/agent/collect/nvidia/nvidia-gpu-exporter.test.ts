import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ExpositionParser } from '../../../../agent/collect/prometheus/exposition.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { sharedData } from '../../../support/data.ts';

const folder = sharedData('samples/nvidia_gpu_exporter');

function samplesOf(page: Buffer): { samples: Map<string, number>; malformed: number } {
  const { heads, values, malformed } = new ExpositionParser().parse(page);
  const entries = heads.map(
    ({ name, labels }, i) =>
      [`${name} ${labels.map((label) => label.join('=')).join()}`, values[i]!] as const,
  );
  return { samples: new Map(entries), malformed };
}

const UUID = 'uuid=00000000-0000-0000-0000-000000000000';
const EXPECTED = [
  {
    name: 'linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01__load.metrics',
    count: 138,
    samples: {
      [`nvidia_smi_power_draw_watts ${UUID}`]: 631.95,
      [`nvidia_smi_memory_used_bytes ${UUID}`]: 20_780_679_168,
      [`nvidia_smi_clocks_current_video_clock_hz ${UUID}`]: 1_545_000_000,
      [`nvidia_smi_utilization_memory_ratio ${UUID}`]: 0.11,
      'nvidia_smi_command_exit_code ': 0,
    },
  },
  {
    name: 'linux-x86_64__nvidia-geforce-rtx-4080-super__595.71.05__load.metrics',
    count: 104,
    samples: {
      [`nvidia_smi_power_draw_watts ${UUID}`]: 84.24,
      [`nvidia_smi_utilization_encoder_ratio ${UUID}`]: 0.72,
      [`nvidia_smi_encoder_stats_average_latency ${UUID}`]: 62_844,
      'nvidia_smi_command_exit_code ': 0,
    },
  },
];

// Lost without it: the series of an exporter that many people run beside or before this agent.
describe.skipIf(folder === undefined).each(EXPECTED)(
  'a page of nvidia_gpu_exporter',
  ({ name, count, samples }) => {
    const page = folder === undefined ? Buffer.alloc(0) : readFileSync(join(folder, name));

    test(`${name} is read whole, and passes through as it is`, () => {
      const read = samplesOf(page);
      expect(read.malformed).toBe(0);
      expect(read.samples.size).toBe(count);
      expect(Object.fromEntries(read.samples)).toMatchObject(samples);
    });

    test(`${name} damaged gives no sample that was not printed`, () => {
      const { samples: whole } = samplesOf(page);
      for (const { what, bytes } of damagedInputs(page, 20_260_103)) {
        const read = samplesOf(bytes);
        const fresh = [...read.samples].filter(([key, value]) => !Object.is(whole.get(key), value));
        expect(fresh.length, `${what}: ${fresh.join(' ')}`).toBeLessThanOrEqual(
          what.startsWith('lines') ? 2 : 1,
        );
      }
    });
  },
);
