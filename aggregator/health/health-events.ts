import { sxidNamed } from '#shared/catalogue/sxid.ts';
import { xidNamed } from '#shared/catalogue/xid.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { GpuRecord } from './gpu-record.ts';
import { type IncidentType, severityWeight, xidWeight } from './incidents.ts';
import type { EventRules } from './profiles/profile.ts';
import type { ClearingCause } from './state-machine.ts';

/** Longest code or name kept of an event. */
const MAX_WORD = 64;

/** No clock that anybody looks after is further ahead. Own judgement, as of the time of a tick. */
const CLOCK_AHEAD_MS = 600_000;

/** The events that health looks at; `node`: without a GPU it concerns every one of its node. */
const LOOKED_AT: ReadonlyMap<string, 'gpu' | 'node'> = new Map([
  ['xid', 'gpu'],
  ['sxid', 'node'],
  ['ras', 'gpu'],
  ['recovery_action', 'gpu'],
  ['gpu_lost', 'gpu'],
  ['gpu_back', 'gpu'],
  ['repair', 'gpu'],
  ['diagnostic', 'node'],
  ['operator_clear', 'node'],
  ['collection_pause', 'node'],
]);

/** Whose health an event changes: nobody's, one GPU's, or that of all GPUs of its node. */
export function concerns({ type, gpu, gpuUuid }: FleetEvent): 'nobody' | 'gpu' | 'node' {
  const whose = LOOKED_AT.get(type);
  if (whose === undefined) return 'nobody';
  if (gpu !== '' || gpuUuid !== '') return 'gpu';
  return whose === 'node' ? 'node' : 'nobody';
}

/** What an event clears, if it does. */
export function clearingOf({ type, attributes }: FleetEvent): ClearingCause | undefined {
  if (type === 'repair') return 'repair';
  if (type === 'operator_clear') return 'operator';
  return type === 'diagnostic' && attributes.result === 'pass' ? 'diagnostic' : undefined;
}

/** Enters an event in a GPU's record. `nowMs`: a clock that runs ahead at the agent makes no event of the future. */
export function takeEvent(gpu: GpuRecord, event: FleetEvent, nowMs: number): void {
  const atMs = Math.min(event.timestampMs, nowMs);
  const { attributes } = event;
  gpu.urgent = true;
  switch (event.type) {
    case 'xid':
      takeXid(gpu, event, atMs);
      break;
    case 'sxid': {
      const { name } = sxidNamed(Number(attributes.code), attributes.driver_severity === 'fatal');
      note(gpu, 'sxid', attributes.code, name, severityWeight(attributes, gpu.profile.events), atMs);
      break;
    }
    case 'ras':
      note(
        gpu,
        'ras',
        attributes.code,
        attributes.name,
        severityWeight(attributes, gpu.profile.events),
        atMs,
      );
      break;
    case 'recovery_action':
      if (atMs > gpu.clearedMs)
        gpu.askedAction = attributes.to === undefined ? Number.NaN : Number(attributes.to);
      break;
    case 'gpu_lost':
      // By the agent's clock, as the samples that end it; unless that clock cannot be right.
      if (atMs > gpu.clearedMs)
        gpu.lose(event.timestampMs > nowMs + CLOCK_AHEAD_MS ? atMs : event.timestampMs);
      break;
    case 'gpu_back':
      gpu.lostMs = undefined;
      break;
    case 'repair':
      gpu.noteRepair(atMs);
      gpu.clear(atMs, nowMs);
      break;
    case 'operator_clear':
      gpu.clear(atMs, nowMs);
      break;
    case 'diagnostic':
      if (attributes.result === 'pass') gpu.clear(atMs, nowMs);
      else if (attributes.result === 'fail') note(gpu, 'diagnostic', attributes.test, '', 1, atMs);
      break;
    case 'collection_pause':
      gpu.expectsGap = true;
      break;
  }
}

function takeXid(gpu: GpuRecord, { attributes, text }: FleetEvent, atMs: number): void {
  const code = Number(attributes.code);
  if (!Number.isInteger(code) || code < 0) return;
  if (attributes.cancels) gpu.incidents.forget('xid', attributes.cancels);
  const { events } = gpu.profile;
  const weight = xidWeight(code, attributes, text, events);
  note(gpu, 'xid', String(code), xidNamed(code).name, weight, atMs, capsAlone(code, attributes, events));
}

/** A profile may hold the score for a code to which it gives no weight, where neither site nor kernel line says that it is harmless. */
function capsAlone(code: number, attributes: FleetEvent['attributes'], { xidCaps }: EventRules): boolean {
  const { follows, severity } = attributes;
  return xidCaps.has(code) && !follows && (severity === undefined || severity === xidNamed(code).severity);
}

/** What weighs nothing and caps nothing is not kept, and what was before a clearing event was cleared by it. */
function note(
  gpu: GpuRecord,
  type: IncidentType,
  code: string | undefined,
  name: string | undefined,
  weight: number,
  atMs: number,
  caps = false,
): void {
  if (!(weight > 0 || caps) || atMs <= gpu.clearedMs) return;
  const word = (code ?? '').slice(0, MAX_WORD);
  gpu.incidents.note(type, word, (name ?? '').slice(0, MAX_WORD), weight, atMs, gpu.profile.events);
}
