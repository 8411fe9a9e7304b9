import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseScontrolJob, scontrolFields } from '../../../../agent/collect/workload/scontrol.ts';
import { damagedInputs } from '../../../support/damaged-inputs.ts';
import { sharedData } from '../../../support/data.ts';

const LINE =
  'JobId=42 JobName=train a=b X UserId=alice(1000) GroupId=ml(1000) Account=(null) JobState=RUNNING Partition=gpu ' +
  'Nodes=node[01-03,7] CPU_IDs=0 Mem=1 GRES=gpu:h100:3(IDX:0,2-3),shard:1(IDX:9) Nodes=other CPU_IDs=0 Mem=1 ' +
  'GRES=gpu:1(IDX:7) MinMemoryNode=1 Command=/x/y.sh --opt=1 TresPerNode=gres:gpu:3';

// Lost without it: GPUs of another node's part of a job, or none.
test.each([
  ['node02', [0, 2, 3]],
  ['node7', [0, 2, 3]],
  ['other', [7]],
  ['node4', []],
  ['node', []],
])('a job has on %s the GPUs %j', (node, indices) => {
  expect(parseScontrolJob(LINE, node)).toEqual({
    id: '42',
    name: 'train a=b X',
    user: 'alice',
    account: '',
    partition: 'gpu',
    gpus: indices.map((index) => ({ index })),
  });
});

test.each(['', 'slurm_load_jobs error: Invalid job id specified', 'JobId=x JobName=y'])(
  '%j is no job',
  (line) => {
    expect(parseScontrolJob(line, 'node-a')).toBeUndefined();
  },
);

const file = sharedData('samples/slurm/sample-scontrol-output.txt');

// The same format of another command: one record a line, of partitions.
describe.skipIf(file === undefined)('a capture of scontrol --oneliner', () => {
  const capture = file === undefined ? Buffer.alloc(0) : readFileSync(file);
  const records = (bytes: Buffer) => bytes.toString('utf8').split('\n').map(scontrolFields);
  const lines = capture.toString('utf8').trim().split('\n');

  test('is split into its fields, none lost and none made up', () => {
    for (const line of lines) {
      const fields = scontrolFields(line);
      expect(fields.map(([key, value]) => `${key}=${value}`).join(' ')).toBe(line.trim());
      // No value of a partition has a space: a plain reader finds the same.
      expect(fields.map(([key]) => key)).toEqual(
        line
          .trim()
          .split(' ')
          .map((word) => word.split('=')[0]),
      );
    }
    expect(records(capture)[0]!.slice(0, 2)).toEqual([
      ['PartitionName', 'partition1'],
      ['AllowGroups', 'ALL'],
    ]);
    expect(Object.fromEntries(records(capture)[1]!)).toMatchObject({ TotalNodes: '1469', State: 'UP' });
  });

  test('damaged is never a job, and never throws', () => {
    for (const { bytes, what } of damagedInputs(capture, 3)) {
      for (const line of bytes.toString('utf8').split('\n')) {
        expect(parseScontrolJob(line, 'node0201'), what).toBeUndefined();
      }
    }
  });
});

test('a damaged job gives no GPU that its line does not have', () => {
  for (const { bytes, what } of damagedInputs(Buffer.from(LINE), 4)) {
    const text = bytes.toString('utf8');
    const indices = (parseScontrolJob(text, 'node02')?.gpus ?? []).map((gpu) =>
      'index' in gpu ? gpu.index : -1,
    );
    const untouched = text.includes('GRES=gpu:h100:3(IDX:0,2-3),') && text.includes('GRES=gpu:1(IDX:7) ');
    if (untouched) expect([0, 2, 3, 7], what).toEqual(expect.arrayContaining(indices));
    expect(Math.max(0, ...indices), what).toBeLessThanOrEqual(255);
  }
});
