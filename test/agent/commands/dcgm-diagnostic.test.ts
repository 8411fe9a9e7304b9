import { expect, test } from 'vitest';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { readDcgmDiagnostic } from '../../../agent/commands/dcgm-diagnostic.ts';
import { damagedInputs } from '../../support/damaged-inputs.ts';

/** Of our own writing, in the form of DCGM 3: GPUs by list, warnings as text. */
const V3 = JSON.stringify({
  'DCGM GPU Diagnostic': {
    test_categories: [
      {
        category: 'Deployment',
        tests: [{ name: 'Denylist', results: [{ gpu_ids: '0,1,2', status: 'PASS' }] }],
      },
      {
        category: 'Hardware',
        tests: [
          {
            name: 'GPU Memory',
            results: [
              { gpu_ids: '0', status: 'PASS' },
              { gpu_ids: '1', status: 'FAIL', warnings: 'A bad row was found' },
              { gpu_ids: '2', status: 'WARN', warnings: 'slow' },
            ],
          },
          { name: 'Memtest', results: [{ gpu_ids: '0,1,2', status: 'SKIP' }] },
        ],
      },
    ],
    version: '3.3.9',
  },
});

/** In the form of DCGM 4: entities, warnings with numbers, lines before the document. */
const V4 = `Successfully started the host engine.\n${JSON.stringify({
  'DCGM Diagnostic': {
    test_categories: [
      {
        category: 'Deployment',
        tests: [
          {
            name: 'software',
            results: [
              { entity_group: 'GPU', entity_group_id: 1, entity_id: 0, status: 'Pass' },
              {
                entity_group: 'GPU',
                entity_group_id: 1,
                entity_id: 3,
                status: 'Fail',
                warnings: [
                  { error_category: 8, error_id: 29, error_severity: 5, warning: 'Persistence mode is off' },
                ],
              },
              { entity_group: 'CPU', entity_group_id: 7, entity_id: 0, status: 'Skip' },
            ],
            test_summary: { status: 'Fail' },
          },
        ],
      },
    ],
  },
  metadata: { version: '4.2.3' },
})}`;

// Lost without it: a diagnostic that failed clears the critical state of a broken GPU.
test('DCGM 3: each GPU has its result, a warning is a pass, a skipped test says nothing', () => {
  expect(readDcgmDiagnostic(V3)).toEqual([
    { gpu: '0', result: 'pass', tests: ['Denylist', 'GPU Memory'], detail: '' },
    { gpu: '1', result: 'fail', tests: ['GPU Memory'], detail: 'A bad row was found' },
    { gpu: '2', result: 'pass', tests: ['Denylist', 'GPU Memory'], detail: '' },
  ]);
});

test('DCGM 4: entities that are GPUs', () => {
  expect(readDcgmDiagnostic(V4)).toEqual([
    { gpu: '0', result: 'pass', tests: ['software'], detail: '' },
    { gpu: '3', result: 'fail', tests: ['software'], detail: 'Persistence mode is off' },
  ]);
});

test('a run that broke off is a failure of the node', () => {
  const text = JSON.stringify({ 'DCGM Diagnostic': { runtime_error: 'the host engine is gone' } });
  expect(readDcgmDiagnostic(text)).toEqual([
    { gpu: '', result: 'fail', tests: ['runtime'], detail: 'the host engine is gone' },
  ]);
});

test.each([
  ['', 'not JSON'],
  ['all passed', 'not JSON'],
  ['{"a":1}', 'not the output of'],
  ['{"DCGM Diagnostic":{"test_categories":[]}}', 'no result of any test'],
  [
    '{"DCGM Diagnostic":{"test_categories":[{"tests":[{"results":[{"gpu_ids":"0","status":"Skip"}]}]}]}}',
    'no result of any test',
  ],
])('%j is refused', (text, why) => {
  expect(() => readDcgmDiagnostic(text)).toThrow(why);
});

// Lost without it: a file that was cut or damaged on its way clears a GPU, or crashes the command.
test('damaged output is refused or read, and never turns a failure of the untouched token into a pass', () => {
  let refused = 0;
  for (const [seed, text] of [V3, V4].entries()) {
    for (const { bytes } of damagedInputs(Buffer.from(text), seed + 1)) {
      try {
        for (const { gpu, result, tests } of readDcgmDiagnostic(bytes.toString('utf8'))) {
          expect(['pass', 'fail']).toContain(result);
          expect(gpu).toMatch(/^\d*$/);
          expect(tests.length).toBeGreaterThan(0);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(FleetError);
        refused++;
      }
    }
  }
  expect(refused).toBeGreaterThan(40);
});
