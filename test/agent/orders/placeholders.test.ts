import { expect, test } from 'vitest';
import { filledIn, placeholderFault } from '../../../agent/orders/placeholders.ts';

test('placeholders are filled in wherever they stand, and all else stays as it is', () => {
  const argv = ['/bin/x', '-i', '{gpu_uuid}', '--at={node}:{gpu}', '$HOME; {x'];
  expect(filledIn(argv, { gpu: '3', gpu_uuid: 'GPU-1f00-22', node: 'node-a' })).toEqual({
    argv: ['/bin/x', '-i', 'GPU-1f00-22', '--at=node-a:3', '$HOME; {x'],
  });
});

// Lost without it: an aggregator that was broken into hands a root program any argument it likes.
test.each([
  ['gpu', '-1'],
  ['gpu', '1,2'],
  ['gpu', '0 --all'],
  ['gpu', '1000'],
  ['gpu', '1\n'],
  ['gpu_uuid', '--help'],
  ['gpu_uuid', '../etc'],
  ['gpu_uuid', 'GPU-1f00 x'],
  ['gpu_uuid', 'GPU-$(id)'],
  ['gpu_uuid', `GPU-${'0'.repeat(80)}`],
  ['node', 'a;b'],
  ['node', '-a'],
  ['argv', 'x'],
  ['__proto__', 'x'],
  ['constructor', 'x'],
])('%s is not to be %j', (name, value) => {
  const values = Object.fromEntries([[name, value]]);
  expect(filledIn(['/bin/x'], values)).toEqual({ why: expect.any(String) });
});

test.each([
  'GPU-1f003dca-0a3c-4a4e-b5d1-6e1e0c0a1b2c',
  'MIG-1f003dca-0a3c',
  '0x1f003dca0a3c4a4e',
  '1f003dca-0a3c',
])('the UUID %s of a vendor is taken', (gpu_uuid) => {
  expect(filledIn(['{gpu_uuid}'], { gpu_uuid })).toEqual({ argv: [gpu_uuid] });
});

// Lost without it: `nvidia-smi --gpu-reset -i ""`, which resets every GPU of the node.
test('a command that needs a GPU does not run without one', () => {
  expect(filledIn(['/bin/x', '{gpu}'], { gpu: '' })).toEqual({ why: expect.stringContaining('needs gpu') });
  expect(filledIn(['/bin/x', '{gpu_uuid}'], {})).toEqual({ why: expect.stringContaining('needs gpu_uuid') });
  expect(filledIn(['/bin/x'], { gpu: '' })).toEqual({ argv: ['/bin/x'] });
});

test('a placeholder that there is not is named', () => {
  expect(placeholderFault('{gpu}/{rack}')).toBe('rack');
  expect(placeholderFault('{toString}')).toBe('toString');
  expect(placeholderFault('{gpu}')).toBeUndefined();
});
