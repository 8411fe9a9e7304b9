import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  chooseQueryFields,
  parseQueryHelp,
} from '../../../../../agent/collect/nvidia/nvidia-smi/query-fields.ts';
import { damagedInputs } from '../../../../support/damaged-inputs.ts';
import { sharedData } from '../../../../support/data.ts';

const folder = sharedData('samples/nvidia-smi');
const read = (name: string): Buffer => readFileSync(join(folder!, name));
const choose = (help: Buffer, withDetail = true): string[] =>
  chooseQueryFields(parseQueryHelp(help), withDetail);

// Lost without it: one field that a driver does not know, and nvidia-smi refuses the whole query.
describe.skipIf(folder === undefined)('of what a real driver says that it has', () => {
  test('driver 590: its own names, none twice, none that it does not list', () => {
    const help = read('help-query-gpu_590.48.01.txt');
    const fields = choose(help);
    expect(parseQueryHelp(help)).toHaveLength(212);
    expect(fields.slice(0, 9)).toEqual([
      'index',
      'uuid',
      'name',
      'serial',
      'pci.bus_id',
      'driver_version',
      'vbios_version',
      'gpu_recovery_action',
      'pstate',
    ]);
    expect(fields).toContain('clocks_event_reasons.active');
    expect(fields).not.toContain('clocks_throttle_reasons.active');
    expect(new Set(fields).size).toBe(fields.length);
    for (const field of fields) expect(help.toString()).toContain(`"${field}"`);
  });

  test('an older driver: the names of its time, and nothing that came later', () => {
    const help = read('query-gpu-fields_old-driver.txt');
    const fields = choose(help);
    expect(fields).toContain('clocks_throttle_reasons.active');
    expect(fields).toContain('ecc.errors.corrected.volatile.device_memory');
    expect(fields).not.toContain('gpu_recovery_action');
    expect(fields).not.toContain('remapped_rows.pending');
    for (const field of fields) expect(help.toString()).toContain(`"${field}"`);
  });

  test('without the detail that the long report has', () => {
    const help = read('help-query-gpu_590.48.01.txt');
    const fields = choose(help, false);
    expect(fields).toContain('ecc.errors.uncorrected.aggregate.total');
    expect(fields.filter((field) => /dram|sram\b|histogram/.test(field))).toEqual([
      'ecc.errors.uncorrected.aggregate.sram.thresholdExceeded',
    ]);
    expect(fields.length).toBeLessThan(choose(help).length);
  });

  test.each(['help-query-gpu_590.48.01.txt', 'query-gpu-fields_old-driver.txt'])(
    '%s damaged asks for no field that is not printed',
    (name) => {
      for (const { what, bytes } of damagedInputs(read(name), 5)) {
        let fields: string[] = [];
        try {
          fields = choose(bytes);
        } catch (error) {
          expect(error, what).toMatchObject({ code: 'unavailable' });
        }
        for (const field of fields) expect(bytes.includes(`"${field}"`), `${what}: ${field}`).toBe(true);
      }
    },
  );
});

test('what is no help text is refused', () => {
  expect(() => choose(Buffer.from('NVIDIA-SMI has failed\n'))).toThrow('it does not list a uuid');
});
