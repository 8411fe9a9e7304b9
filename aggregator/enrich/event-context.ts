import type { Source } from '#shared/model/block.ts';
import { type FleetEvent, MAX_EVENT_ATTRIBUTES } from '#shared/model/event.ts';
import type { AssetBook } from './asset-book.ts';

/** A list of 16 switches is cut. */
const MAX_VALUE = 256;

/**
 * The event with what the inventory knows: pool, rack, pdu, cooling_zone, switches, row, datacenter, and of its GPU
 * serial, warranty (`until 2027-05-01`, `ended 2024-05-01`), repairs, last_repair and firmware. In this order until
 * MAX_EVENT_ATTRIBUTES are there; what the event says itself is never replaced. The same object where nothing is known.
 */
export function withAssets(event: FleetEvent, source: Source, book: AssetBook): FleetEvent {
  const room = MAX_EVENT_ATTRIBUTES - Object.keys(event.attributes).length;
  const context = contextOf(event, source, book)
    .filter(([name]) => !(name in event.attributes))
    .slice(0, Math.max(0, room));
  if (context.length === 0) return event;
  return { ...event, attributes: { ...event.attributes, ...Object.fromEntries(context) } };
}

function contextOf(event: FleetEvent, source: Source, book: AssetBook): [string, string][] {
  const node = book.assetOf(source);
  const gpu =
    event.gpu === '' && event.gpuUuid === ''
      ? undefined
      : book.gpuAssetOf(source, event.gpu, event.gpuUuid, event.attributes.serial ?? '');
  const repairs = gpu?.repairs ?? [];
  const all: readonly (readonly [string, string | undefined])[] = [
    ['pool', node.pool],
    ['rack', node.rack],
    ['pdu', node.pdu.join(',')],
    ['cooling_zone', node.coolingZone],
    ['serial', gpu?.serial],
    ['warranty', warrantyWords(gpu?.warrantyEndMs, event.timestampMs)],
    ['repairs', repairs.length === 0 ? undefined : String(repairs.length)],
    [
      'last_repair',
      repairs.length === 0 ? undefined : `${dayOf(repairs.at(-1)!.atMs)} ${repairs.at(-1)!.what}`,
    ],
    ['switches', node.switches.join(',')],
    ['row', node.row],
    ['datacenter', node.datacenter],
    ['firmware', gpu?.firmware],
  ];
  return all.flatMap(([name, value]) =>
    value === undefined || value === '' ? [] : [[name, value.slice(0, MAX_VALUE)] as [string, string]],
  );
}

function warrantyWords(endMs: number | undefined, atMs: number): string | undefined {
  if (endMs === undefined) return undefined;
  return `${atMs <= endMs ? 'until' : 'ended'} ${dayOf(endMs)}`;
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
