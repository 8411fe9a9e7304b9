import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  EventSchema,
  LossSchema,
  type Event as WireEvent,
  type Loss as WireLoss,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import { type FleetEvent, MAX_EVENT_ATTRIBUTES, MAX_EVENT_TEXT } from '#shared/model/event.ts';
import type { Loss, LossReason } from '#shared/model/loss.ts';
import { crc32c } from './crc32c.ts';

/*
 * A record on disk:
 *
 *   version    1 byte    RECORD_VERSION
 *   kind       1 byte    RecordKind
 *   checksum   4 bytes   CRC-32C, little endian, over version, kind and body
 *   body       the rest: a tick is 8 bytes of dictionary hash (LE) and a keyframe; the others are protobuf
 *
 * LevelDB reads a flipped byte back without a word: the checksum is ours.
 */
export const RECORD_VERSION = 1;
const HEADER_BYTES = 6;

/** The numbers are part of the disk format. */
export const RecordKind = { Tick: 1, Event: 2, Dictionary: 3, Loss: 4 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

export function sealRecord(kind: RecordKind, ...body: Uint8Array[]): Buffer {
  let length = HEADER_BYTES;
  for (const part of body) length += part.length;
  const record = Buffer.allocUnsafe(length);
  record[0] = RECORD_VERSION;
  record[1] = kind;
  let at = HEADER_BYTES;
  for (const part of body) {
    record.set(part, at);
    at += part.length;
  }
  record.writeUInt32LE(checksum(record), 2);
  return record;
}

export interface OpenedRecord {
  readonly kind: RecordKind;
  readonly body: Uint8Array;
}

/** Throws `data_loss` where the record is cut, flipped, or of a newer format. The body is a view of `record`. */
export function openRecord(record: Uint8Array): OpenedRecord {
  if (record.length < HEADER_BYTES) throw damaged(`it has ${record.length} bytes`);
  const version = record[0]!;
  const kind = record[1]!;
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  if (view.getUint32(2, true) !== checksum(record)) throw damaged('its checksum does not match');
  if (version !== RECORD_VERSION) throw damaged(`its format ${version} is not known`);
  if (kind < 1 || kind > 4) throw damaged(`its kind ${kind} is not known`);
  return { kind: kind as RecordKind, body: record.subarray(HEADER_BYTES) };
}

function checksum(record: Uint8Array): number {
  return crc32c(record, HEADER_BYTES, record.length, crc32c(record, 0, 2));
}

function damaged(why: string): FleetError {
  return new FleetError('data_loss', `Cannot read record: ${why}`);
}

/** The body of a tick record. */
export function splitTick(body: Uint8Array): { hash: bigint; frame: Uint8Array } {
  if (body.length < 9) throw damaged('its tick is cut short');
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  return { hash: view.getBigUint64(0, true), frame: body.subarray(8) };
}

export function hashBytes(hash: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, hash, true);
  return bytes;
}

export function eventToWire(event: FleetEvent): WireEvent {
  return create(EventSchema, {
    type: event.type,
    timeUnixMs: BigInt(event.timestampMs),
    gpu: event.gpu,
    gpuUuid: event.gpuUuid,
    text: event.text.slice(0, MAX_EVENT_TEXT),
    attributes: Object.fromEntries(Object.entries(event.attributes).slice(0, MAX_EVENT_ATTRIBUTES)),
  });
}

/** Cuts what is over its limit: an event is never refused for its length. */
export function eventFromWire(wire: WireEvent): FleetEvent {
  return {
    type: wire.type.slice(0, 64),
    timestampMs: Number(wire.timeUnixMs),
    gpu: wire.gpu.slice(0, 64),
    gpuUuid: wire.gpuUuid.slice(0, 128),
    text: wire.text.slice(0, MAX_EVENT_TEXT),
    attributes: Object.fromEntries(
      Object.entries(wire.attributes)
        .slice(0, MAX_EVENT_ATTRIBUTES)
        .map(([name, value]) => [name.slice(0, 64), value.slice(0, 1024)]),
    ),
  };
}

export function lossToWire(loss: Loss): WireLoss {
  return create(LossSchema, {
    fromUnixMs: BigInt(loss.fromMs),
    toUnixMs: BigInt(loss.toMs),
    samples: BigInt(loss.samples),
    reason: loss.reason,
    estimated: loss.estimated,
    detail: loss.detail,
  });
}

export function lossFromWire(wire: WireLoss): Loss {
  return {
    fromMs: Number(wire.fromUnixMs),
    toMs: Number(wire.toUnixMs),
    samples: Number(wire.samples),
    reason: wire.reason as LossReason,
    estimated: wire.estimated,
    detail: wire.detail.slice(0, 1024),
  };
}

export const encodeEvent = (event: FleetEvent): Uint8Array => toBinary(EventSchema, eventToWire(event));
export const encodeLoss = (loss: Loss): Uint8Array => toBinary(LossSchema, lossToWire(loss));
export const decodeEventWire = (bytes: Uint8Array): WireEvent => fromBinary(EventSchema, bytes);
export const decodeLossWire = (bytes: Uint8Array): WireLoss => fromBinary(LossSchema, bytes);
