import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Source } from '#shared/model/block.ts';
import { type FleetEvent, MAX_EVENT_ATTRIBUTES } from '#shared/model/event.ts';
import { AssetBook } from '../../../aggregator/enrich/asset-book.ts';
import { withAssets } from '../../../aggregator/enrich/event-context.ts';
import { ROOT } from '../../support/data.ts';

const node: Source = { cluster: 'prod', node: 'gpu-0121', externalLabels: [] };
const xid: FleetEvent = {
  type: 'xid',
  timestampMs: Date.parse('2026-03-01T12:00:00Z'),
  gpu: '3',
  gpuUuid: 'GPU-7d8f3c1e-90a4-4f0b-8f4e-2f6f5f3a1c55',
  text: 'NVRM: Xid',
  attributes: { code: '79', rack: 'said by the event' },
};
const book = await AssetBook.open(join(ROOT, 'deploy/examples/assets.yaml'));

// Lost without it: who is paged looks the rack, the warranty and the last repair up by hand.
test('an event is told with where it is and what was done there, and what it says itself stays', () => {
  expect(withAssets(xid, node, book).attributes).toEqual({
    code: '79',
    rack: 'said by the event',
    pool: 'training',
    pdu: 'p12a,p12b',
    cooling_zone: 'cz3',
    serial: '1654322012345',
    warranty: 'until 2027-05-01',
    repairs: '1',
    last_repair: '2025-02-03 board replaced',
    switches: 'leaf-12,leaf-13',
    row: 'a',
    datacenter: 'ams1',
    firmware: '96.00.A5.00.01',
  });
  const late = withAssets({ ...xid, timestampMs: Date.parse('2028-01-01') }, node, book);
  expect(late.attributes.warranty).toBe('ended 2027-05-01');
});

test('there are never more attributes than an event may have, and none are taken away', () => {
  for (let own = 0; own <= MAX_EVENT_ATTRIBUTES + 2; own++) {
    const attributes = Object.fromEntries(Array.from({ length: own }, (_, i) => [`own_${i}`, 'x']));
    const enriched = withAssets({ ...xid, attributes }, node, book).attributes;
    expect(Object.keys(enriched).length).toBeLessThanOrEqual(Math.max(own, MAX_EVENT_ATTRIBUTES));
    expect(enriched).toMatchObject(attributes);
  }
});

test('nothing known: the same event, and one of a node has nothing of a GPU', () => {
  expect(withAssets(xid, { ...node, node: 'elsewhere' }, book).attributes.pool).toBeUndefined();
  const unknown: FleetEvent = { ...xid, gpuUuid: 'GPU-x', gpu: '0' };
  expect(withAssets(unknown, { ...node, node: 'elsewhere' }, book)).toBe(unknown);
  const ofNode = withAssets({ ...xid, gpu: '', gpuUuid: '' }, node, book).attributes;
  expect(ofNode).toMatchObject({ pool: 'training' });
  expect(ofNode.serial).toBeUndefined();
});
