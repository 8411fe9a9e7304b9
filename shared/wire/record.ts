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
 *   version    1 byte    RECORD_VERSION, or 1
 *   kind       1 byte    RecordKind
 *   checksum   4 bytes   CRC-32C, little endian, over the key that it lies under, version, kind and body;
 *                        version 1 leaves the key out
 *   body       the rest: a tick is 8 bytes of dictionary hash (LE) and a frame, on its own a keyframe; a segment
 *              is many records in one (segment.ts); the others are protobuf
 *
 * LevelDB reads a flipped byte back without a word: the checksum is ours. The key is in it, because a flipped key
 * would show the record at another's place.
 */
export const RECORD_VERSION = 2;
const HEADER_BYTES = 6;

/** The numbers are part of the disk format. A segment is never sent: reading it gives the records inside. */
export const RecordKind = { Tick: 1, Event: 2, Dictionary: 3, Loss: 4, Segment: 5 } as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

export function sealRecord(key: Uint8Array, kind: RecordKind, ...body: Uint8Array[]): Buffer {
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
  record.writeUInt32LE(checksum(record, crc32c(key)), 2);
  return record;
}

export interface OpenedRecord {
  readonly kind: RecordKind;
  readonly body: Uint8Array;
}

/**
 * Throws `data_loss` where the record is cut, flipped, in another's place, or of a newer format. The body is a
 * view of `record`.
 */
export function openRecord(key: Uint8Array, record: Uint8Array): OpenedRecord {
  if (record.length < HEADER_BYTES) throw damaged(`it has ${record.length} bytes`);
  const version = record[0]!;
  const kind = record[1]!;
  const view = new DataView(record.buffer, record.byteOffset, record.length);
  const seed = version === 1 ? 0 : crc32c(key);
  if (view.getUint32(2, true) !== checksum(record, seed)) throw damaged('its checksum does not match');
  if (version < 1 || version > RECORD_VERSION) throw damaged(`its format ${version} is not known`);
  if (kind < RecordKind.Tick || kind > RecordKind.Segment) throw damaged(`its kind ${kind} is not known`);
  return { kind: kind as RecordKind, body: record.subarray(HEADER_BYTES) };
}

function checksum(record: Uint8Array, seed: number): number {
  return crc32c(record, HEADER_BYTES, record.length, crc32c(record, 0, 2, seed));
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

/**
 * Cuts what is over its limit, a time that no calendar has included: an event is never refused for its size, and
 * one that could not be written out would come again for ever.
 */
export function eventFromWire(wire: WireEvent): FleetEvent {
  return {
    type: wire.type.slice(0, 64),
    timestampMs: timeFromWire(wire.timeUnixMs),
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

/** The end of the year 9999: the last moment that a protobuf Timestamp can name, and its JSON. */
const MAX_TIME_MS = 253_402_300_799_999;

function timeFromWire(unixMs: bigint): number {
  return Math.min(Math.max(Number(unixMs), 0), MAX_TIME_MS);
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
    fromMs: timeFromWire(wire.fromUnixMs),
    toMs: timeFromWire(wire.toUnixMs),
    samples: Math.min(Number(wire.samples), Number.MAX_SAFE_INTEGER),
    reason: wire.reason.slice(0, 64) as LossReason,
    estimated: wire.estimated,
    detail: wire.detail.slice(0, 1024),
  };
}

export const encodeEvent = (event: FleetEvent): Uint8Array => toBinary(EventSchema, eventToWire(event));
export const encodeLoss = (loss: Loss): Uint8Array => toBinary(LossSchema, lossToWire(loss));
export const decodeEventWire = (bytes: Uint8Array): WireEvent => fromBinary(EventSchema, bytes);
export const decodeLossWire = (bytes: Uint8Array): WireLoss => fromBinary(LossSchema, bytes);
