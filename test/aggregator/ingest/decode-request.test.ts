import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { describe, expect, test } from 'vitest';
import {
  type Lane,
  RecordSchema,
  type StreamRequest,
  StreamRequestSchema,
  TickSchema,
} from '#proto/gpufleet/telemetry/v1/ingest_pb.ts';
import { createDictionary, dictionaryToWire } from '#shared/wire/dictionary.ts';
import { decodeRequest, MAX_MESSAGE_COST } from '../../../aggregator/ingest/decode-request.ts';
import { expectFleetError } from '../../shared/wire/expect-fleet-error.ts';
import { heapAfter } from '../../support/heap.ts';
import { seededRandom } from '../../support/random.ts';

/** What gRPC lets through. */
const MESSAGE_BYTES = 4 * 2 ** 20;

/** As many copies of a few bytes as a message has room for, inside the fields of these numbers. */
function filled(unit: readonly number[], ...inside: number[]): Uint8Array {
  const count = Math.floor((MESSAGE_BYTES - 64) / unit.length);
  const content = new Uint8Array(count * unit.length);
  for (let at = 0; at < content.length; at++) content[at] = unit[at % unit.length]!;
  return inside.reduceRight<Uint8Array>((bytes, number) => {
    return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish();
  }, content);
}

// What a user would lose: a single message of an agent with a bug holds up the whole fleet for seconds, two end the
// process. Each of these took 350 to 470 MiB before it was counted.
describe('4 MiB of the smallest things that there are', () => {
  test.each([
    ['series', filled([0x32, 0], 2, 6)],
    ['series with labels', filled([0x32, 4, 0x12, 2, 0, 0], 2, 6)],
    ['frames', filled([0x1a, 0], 2, 8)],
    ['runs', filled([0x42, 0], 1)],
    ['external labels', filled([0x4a, 4, 0x0a, 0, 0x12, 0], 1)],
    ['attributes', filled([0x32, 4, 0x0a, 0, 0x12, 0], 2, 5)],
    ['records over records', filled([0x12, 0])],
  ])('%s: refused before they are made', (_, bytes) => {
    expect(bytes.length).toBeLessThanOrEqual(MESSAGE_BYTES);
    let thrown: unknown;
    try {
      decodeRequest(bytes);
    } catch (error) {
      thrown = error;
    }
    expectFleetError(thrown, 'resource_exhausted');
  });

  test.each([
    ['empty symbols', filled([0x2a, 0], 2, 6)],
    ['gaps', filled([1], 2, 8, 2)],
    ['label references of one series', filled([1], 2, 6, 6, 2)],
    ['unknown numbers', filled([0x78, 0])],
    ['unknown bytes, inside a record', filled([0x7a, 0], 2)],
  ])('%s: read, and within the limit', async (_, bytes) => {
    const before = await heapAfter(() => {});
    let message: unknown;
    const after = await heapAfter(() => {
      message = decodeRequest(bytes);
    });
    expect(after - before).toBeLessThan(MAX_MESSAGE_COST);
    expect(message).toBeDefined();
  });
});

test('an honest message as large as they come is read: 10,000 series of their own labels', () => {
  const dictionary = createDictionary(
    'g',
    1000,
    Array.from({ length: 10_000 }, (_, i) => ({
      name: `metric_${i}`,
      labels: [
        ...Array.from({ length: 12 }, (_, label) => [`label_${label + 10}`, `${i % 997}`] as const),
        ['uuid', `GPU-604ac76c-d9cf-fef3-62e9-${i}-${'x'.repeat(300)}`] as const,
      ],
      kind: 'gauge' as const,
      decimals: 0,
      help: '',
      unit: '',
    })),
  );
  const value = { body: { case: 'dictionary' as const, value: dictionaryToWire(dictionary, 1) } };
  const bytes = toBinary(
    StreamRequestSchema,
    create(StreamRequestSchema, { message: { case: 'record', value } }),
  );
  expect(bytes.length).toBeGreaterThan(3.5 * 2 ** 20);
  expect(bytes.length).toBeLessThan(MESSAGE_BYTES);
  const { message } = decodeRequest(bytes);
  expect(message).toMatchObject({ case: 'record', value: { body: { value: { group: 'g' } } } });
});

test('bytes that are no message are refused like any other fault of an agent', () => {
  for (const bytes of [Uint8Array.of(0xff, 0xff, 0xff, 0xff), filled([0xff]), filled([0x0a, 0x7f])]) {
    let thrown: unknown;
    try {
      decodeRequest(bytes);
    } catch (error) {
      thrown = error;
    }
    expectFleetError(thrown, 'invalid_input');
  }
});

// The short way for ticks must say what the long way says, or a newer agent's message would be misread in silence.
test('a tick read by hand is what the generic reader makes of it, also when bytes are changed', () => {
  const random = seededRandom(7);
  const below = (limit: number): number => Math.floor(random() * limit);
  let read = 0;
  for (let i = 0; i < 20_000; i++) {
    const frame = Uint8Array.from({ length: below(200) }, () => below(256));
    const value = create(RecordSchema, {
      run: below(3),
      sequence: BigInt(below(2) === 0 ? below(300) : below(2 ** 50)),
      lane: below(3) as Lane,
      body: { case: 'tick', value: create(TickSchema, { dictionary: below(400), frame }) },
    });
    const bytes = toBinary(
      StreamRequestSchema,
      create(StreamRequestSchema, { message: { case: 'record', value } }),
    );
    for (let changes = below(3); changes > 0 && bytes.length > 0; changes--)
      bytes[below(Math.min(bytes.length, 24))] = below(256);
    const short = outcomeOf(() => decodeRequest(bytes));
    const long = outcomeOf(() => fromBinary(StreamRequestSchema, bytes, { readUnknownFields: false }));
    expect(short).toEqual(long);
    if (short.startsWith('{')) read++;
  }
  expect(read).toBeGreaterThan(5_000);
});

/** What was read, as text; or that it was refused. */
function outcomeOf(read: () => StreamRequest): string {
  let message: StreamRequest['message'];
  try {
    ({ message } = read());
  } catch {
    return 'refused';
  }
  if (message.case !== 'record' || message.value.body.case !== 'tick') return message.case ?? 'nothing';
  const { run, sequence, lane, body } = message.value;
  const { dictionary, frame } = body.value;
  return JSON.stringify({ run, sequence: String(sequence), lane, dictionary, frame: [...frame] });
}
