import { describe, expect, it } from 'vitest';
import { allowedOut, type Policy } from '../../../../aggregator/alerts/actions/policy.ts';
import { PoolShares } from '../../../../aggregator/alerts/actions/pool-shares.ts';
import { MemoryBucket, type MemoryControl } from './memory-control.ts';

const POLICY: Policy = {
  name: 'p',
  matches: () => true,
  forMs: 0,
  mode: 'live',
  approval: 'none',
  maxShare: 0.1,
  maxNodes: 500,
  coolDownMs: 0,
  window: undefined,
  undo: 'by_hand',
  steps: [],
};
const on = (node: string, id = node) => ({
  id,
  pool: 'a/100 %',
  target: { cluster: 'east', node, gpu: '', gpuUuid: '' },
});
const sharesOf = (control: MemoryControl, nodes = 50) =>
  new PoolShares({ control, nodesOfPool: () => nodes });

describe('the share of a pool', () => {
  it.each([
    // nodes, share, most, allowed
    [100, 0.05, 500, 5],
    [119, 0.05, 500, 5],
    [100, 0.29, 500, 29],
    [8, 0.05, 500, 1],
    [2, 0.05, 500, 1],
    [1, 0.05, 500, 0],
    [1, 1, 500, 1],
    [8, 0, 500, 0],
    [100, 0.5, 4, 4],
    [100, 0.5, 0, 0],
    [0, 1, 500, 0],
  ])('of %i nodes at %f and at most %i is %i nodes', (nodes, maxShare, maxNodes, allowed) => {
    expect(allowedOut(nodes, { maxShare, maxNodes })).toBe(allowed);
  });

  it('is never overdrawn by those who race for it', async () => {
    const bucket = new MemoryBucket();
    const racers = Array.from({ length: 40 }, (_, i) =>
      sharesOf(bucket.client()).reserve(on(`n${i}`), POLICY),
    );
    const answers = await Promise.all(racers);
    expect(answers.filter((why) => why === undefined)).toHaveLength(5);
    expect(answers.find((why) => why !== undefined)).toBe(
      '5 of 50 nodes of pool a/100 % are out, and policy p allows 5',
    );
    const [pool] = sharesOf(bucket.client()).pools();
    expect(pool).toMatchObject({ cluster: 'east', pool: 'a/100 %' });
    expect(Object.keys(pool!.nodes)).toHaveLength(5);
  });

  it('counts a node once, until the last action gives it back', async () => {
    const control = new MemoryBucket().client();
    const shares = sharesOf(control, 10);
    expect(await shares.reserve(on('n1', 'a'), POLICY)).toBeUndefined();
    expect(await shares.reserve(on('n1', 'b'), POLICY)).toBeUndefined();
    expect(await shares.reserve(on('n2'), POLICY)).toContain('allows 1');
    await shares.free(on('n1', 'a'));
    expect(await shares.reserve(on('n2'), POLICY)).toContain('allows 1');
    await shares.free(on('n1', 'b'));
    expect(await shares.reserve(on('n2'), POLICY)).toBeUndefined();
  });

  it('counts nodes that are out otherwise, but for the one that it is about: it is none the more out', async () => {
    const shares = new PoolShares({
      ...{ control: new MemoryBucket().client(), nodesOfPool: () => 10, outOtherwise: () => ['n1'] },
    });
    expect(await shares.reserve(on('n2'), POLICY)).toContain('1 of 10 nodes');
    expect(await shares.reserve(on('n1'), POLICY)).toBeUndefined();
  });

  it('takes nothing out of a pool whose size is not known, or whose document cannot be read', async () => {
    const bucket = new MemoryBucket();
    const control = bucket.client();
    expect(await sharesOf(control, 0).reserve(on('n1'), POLICY)).toContain('is not known');
    await control.put('share/east/a%2F100%20%25', { nodes: 'all' }, 0);
    await expect(sharesOf(control).reserve(on('n1'), POLICY)).rejects.toThrow('it is no share');
  });
});
