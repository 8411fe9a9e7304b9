import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { Tick } from '#shared/model/block.ts';
import type { Dictionary, Kind } from '#shared/model/dictionary.ts';
import type { FleetEvent } from '#shared/model/event.ts';
import type { Loss } from '#shared/model/loss.ts';
import { SlotState } from '#shared/model/slot-state.ts';
import { createDictionary } from '#shared/wire/dictionary.ts';
import { FrameDecoder } from '#shared/wire/frame-decoder.ts';
import {
  decodeEventWire,
  decodeLossWire,
  eventFromWire,
  lossFromWire,
  RecordKind,
  splitTick,
} from '#shared/wire/record.ts';
import { RecordBuffer } from '../../../agent/buffer/record-buffer.ts';
import type { StoredRun } from '../../../agent/buffer/stored-run.ts';
import { seededRandom } from '../../support/random.ts';

/** What a record holds, comparable: a slot without a value says only why. */
type Content =
  | {
      readonly kind: 'tick';
      readonly group: string;
      readonly at: number;
      readonly values: (number | string)[];
    }
  | { readonly kind: 'event'; readonly text: string }
  | { readonly kind: 'loss'; readonly loss: Loss }
  | { readonly kind: 'dictionary' };

interface Seen {
  readonly run: number;
  readonly sequence: number;
  readonly ok: boolean;
  readonly content?: Content;
  /** Samples that are lost with it. */
  readonly samples: number;
  readonly durable: boolean;
}

/** In memory where that can be had: the fsyncs of thousands of sequences are not what is tried here. */
const FOLDER = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const START = 1_780_000_000_000;
const MAX_AGE_MS = 900_000;
const KINDS: Kind[] = ['gauge', 'counter', 'info'];
const keyOf = (run: number, sequence: number): string => `${run}/${sequence}`;

/** Every fault of a sequence carries its seed. */
class ModelError extends Error {}

/**
 * The buffer beside a model of it that is only a map. Operations are drawn from a seed; after each, everything is
 * read back, in random pieces, and compared: what was appended is there bit for bit, or said to be lost.
 */
export class BufferModel implements AsyncDisposable {
  readonly #random: () => number;
  readonly #root = mkdtempSync(join(FOLDER, 'gpufleet-buffer-model-'));
  readonly #time = { now: START, mono: 0 };
  readonly #appended = new Map<string, Content>();
  /** As last read. */
  #seen = new Map<string, Seen>();
  /** Runs that were damaged: a hole in them is no fault. */
  readonly #damaged = new Set<number>();
  #folder = 0;
  #version = 0;
  #events = 0;
  #buffer!: RecordBuffer;
  readonly #maxBytes: number;
  readonly #groups: Dictionary[];
  readonly log: string[] = [];

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.#maxBytes = this.#random() < 0.2 ? 60_000 : 2 ** 22;
    this.#groups = ['a', 'b', 'c'].map((group) => this.#newDictionary(group));
  }

  async run(operations: number): Promise<void> {
    await this.#open();
    await this.#append(1 + this.#below(5));
    for (let i = 0; i < operations; i++) await this.#operation();
    await this.#check('the end');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#buffer?.[Symbol.asyncDispose]();
    rmSync(this.#root, { recursive: true, force: true });
  }

  async #operation(): Promise<void> {
    const what = this.#random();
    if (what < 0.3) await this.#append(1 + this.#below(8));
    else if (what < 0.42) await this.#append(60 + this.#below(120));
    else if (what < 0.47) this.#groups[this.#below(3)] = this.#newDictionary('abc'[this.#below(3)]!);
    else if (what < 0.57) await this.#mark();
    else if (what < 0.69) await this.#compact();
    else if (what < 0.79) await this.#trim();
    else if (what < 0.85) await this.#lookUp();
    else if (what < 0.9) await this.#reopen();
    else if (what < 0.94) await this.#kill('kill', () => {});
    else if (what < 0.97) await this.#kill('tear', (path) => this.#tear(path));
    else await this.#kill('flip', (path) => this.#flip(path));
  }

  async #open(): Promise<void> {
    this.#buffer = await RecordBuffer.open({
      directory: this.#path,
      machineId: 'model',
      maxAgeMs: MAX_AGE_MS,
      maxBytes: this.#maxBytes,
      fsync: this.#random() < 0.5 ? 'tick' : 'interval',
      clock: { now: () => this.#time.now, monotonic: () => this.#time.mono },
      logger: silentLogger,
      registry: createRegistry(),
    });
  }

  get #path(): string {
    return join(this.#root, String(this.#folder));
  }

  async #append(count: number): Promise<void> {
    this.log.push(`append ${count}`);
    const stored: Promise<void>[] = [];
    for (let i = 0; i < count; i++) {
      // Up to 12 s apart, and now and then the clock steps back.
      const step = 1 + this.#below(12_000);
      this.#time.mono += step;
      this.#time.now += this.#random() < 0.02 ? -this.#below(30_000) : step;
      const what = this.#random();
      if (what < 0.92) stored.push(this.#appendTick());
      else if (what < 0.97) stored.push(this.#appendEvent());
      else stored.push(this.#appendLoss());
      if (this.#random() < 0.05) await Promise.all(stored.splice(0));
    }
    await Promise.all(stored);
    await this.#check('append');
  }

  #appendTick(): Promise<void> {
    const tick = this.#randomTick();
    const { sequence, stored, dictionarySequence } = this.#buffer.appendTick(tick);
    const { counter } = this.#buffer.live;
    this.#appended.set(keyOf(counter, sequence), contentOf(tick));
    if (dictionarySequence !== undefined)
      this.#appended.set(keyOf(counter, dictionarySequence), { kind: 'dictionary' });
    return stored;
  }

  #appendEvent(): Promise<void> {
    const event: FleetEvent = {
      type: 'xid',
      timestampMs: this.#time.now,
      gpu: '0',
      gpuUuid: '',
      text: `event ${this.#events++}`,
      attributes: {},
    };
    const { sequence, stored } = this.#buffer.appendEvent(event);
    this.#appended.set(keyOf(this.#buffer.live.counter, sequence), { kind: 'event', text: event.text });
    return stored;
  }

  #appendLoss(): Promise<void> {
    const loss: Loss = {
      fromMs: this.#time.now - 1000,
      toMs: this.#time.now,
      samples: this.#below(100),
      reason: 'refused',
      estimated: false,
      detail: `loss ${this.#events++}`,
    };
    const done = this.#buffer.appendLoss(loss);
    const { counter, last } = this.#buffer.live;
    this.#appended.set(keyOf(counter, last), { kind: 'loss', loss });
    return done;
  }

  async #mark(): Promise<void> {
    const run = this.#buffer.runs[this.#below(this.#buffer.runs.length)]!;
    if (run.last < run.first) return;
    const first = run.first + this.#below(run.last - run.first + 1);
    const last = Math.min(run.last, first + this.#below(100));
    this.log.push(`mark ${run.counter}: ${first}..${last}`);
    run.durable.add(first, last);
    await this.#buffer.saveMarks(run);
    await this.#check('mark');
  }

  async #compact(): Promise<void> {
    this.#time.now += this.#below(200_000);
    this.log.push('compact');
    await this.#buffer.compact();
    await this.#check('compact');
  }

  async #trim(): Promise<void> {
    this.#time.now += this.#below(600_000);
    const before = await this.#readAll();
    await this.#buffer.trim();
    const after = await this.#readAll();
    this.log.push(`trim ${before.size} -> ${after.size}`);
    let [samples, unreadable] = [0, 0];
    for (const [key, seen] of before) {
      if (after.has(key) || seen.durable) continue;
      if (seen.ok) samples += seen.samples;
      else unreadable++;
    }
    const written = [...after.values()].flatMap(({ content, run, sequence }) =>
      content?.kind === 'loss' && !before.has(keyOf(run, sequence)) ? [content.loss] : [],
    );
    const said = written
      .filter(({ reason }) => reason === 'trimmed')
      .reduce((sum, one) => sum + one.samples, 0);
    // A loss that was itself trimmed by a later step of the same call is in that step's count.
    if (said !== samples && !this.#wasTrimmedTwice(written, samples))
      this.#fail(`trimmed ${samples} samples, and the losses say ${said}`);
    if (unreadable > 0 && !written.some(({ reason }) => reason === 'corrupt'))
      this.#fail(`${unreadable} damaged records were trimmed without a word`);
    await this.#check('trim', true);
  }

  /** Losses of earlier steps, in records that are gone already, were added up in the last one. */
  #wasTrimmedTwice(written: readonly Loss[], samples: number): boolean {
    return written.some((one) => one.reason === 'trimmed' && one.samples > samples);
  }

  async #lookUp(): Promise<void> {
    const run = this.#buffer.runs[this.#below(this.#buffer.runs.length)]!;
    if (run.last < run.first) return;
    const sequence = run.first + this.#below(run.last - run.first + 1);
    const time = await this.#buffer.timeOf(run, sequence);
    const content = this.#appended.get(keyOf(run.counter, sequence));
    const seen = this.#seen.get(keyOf(run.counter, sequence));
    if (content?.kind === 'tick' && seen?.ok && time !== content.at)
      this.#fail(`timeOf ${sequence} is ${time}, not ${content.at}`);
    if (time === undefined) return;
    const found = await this.#buffer.firstAtOrAfter(run, time);
    if (found === undefined || found > sequence)
      this.#fail(`the first at or after ${time} is ${found}, and ${sequence} is`);
  }

  async #reopen(): Promise<void> {
    this.log.push('reopen');
    await this.#buffer[Symbol.asyncDispose]();
    await this.#open();
    await this.#check('reopen');
  }

  /** As the disk is at this moment, which is what a killed process leaves; then some harm, and a new process. */
  async #kill(what: string, harm: (path: string) => void): Promise<void> {
    const before = this.#seen;
    if (what !== 'kill') {
      // So that the tail file knows what the harm takes.
      this.#time.mono += 2_000;
      await this.#buffer.saveMarks(this.#buffer.live);
      await this.#tailWritten();
    }
    const from = this.#path;
    this.#folder++;
    cpSync(from, this.#path, { recursive: true });
    await this.#buffer[Symbol.asyncDispose]();
    rmSync(from, { recursive: true });
    harm(join(this.#path, 'buffer'));
    this.log.push(what);
    // A repair may bring back what had left the ring.
    if (what !== 'kill') for (let run = 1; run <= this.#buffer.live.counter; run++) this.#damaged.add(run);
    await this.#open();
    if (what === 'kill') return this.#check(what);
    const after = await this.#readAll();
    const isSaid = [...after.values()].some(
      ({ run, content }) =>
        run === this.#buffer.live.counter && content?.kind === 'loss' && content.loss.reason === 'corrupt',
    );
    for (const [key, { durable, ok }] of before) {
      if (after.has(key) || durable || !ok || isSaid) continue;
      this.#fail(`record ${key} went with the ${what} without a word`);
    }
    await this.#check(what, true);
  }

  async #tailWritten(): Promise<void> {
    const { last } = this.#buffer.live;
    for (let i = 0; i < 1_000; i++) {
      const [json] = readFileSync(join(this.#path, 'buffer.tail'), 'utf8').split('\n');
      // Empty until the first write.
      if (json && (JSON.parse(json) as { last: number }).last === last) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#fail(`the tail file does not say ${last}`);
  }

  #tear(path: string): void {
    const log = readdirSync(path)
      .filter((name) => name.endsWith('.log'))
      .sort()
      .at(-1);
    if (!log) return;
    const bytes = readFileSync(join(path, log));
    writeFileSync(
      join(path, log),
      bytes.subarray(0, bytes.length - this.#below(Math.min(bytes.length, 4_000) + 1)),
    );
  }

  #flip(path: string): void {
    const files = readdirSync(path).filter((name) => statSync(join(path, name)).size > 0 && name !== 'LOG');
    const name = files[this.#below(files.length)]!;
    const bytes = readFileSync(join(path, name));
    for (let i = 0; i <= this.#below(3); i++) bytes[this.#below(bytes.length)]! ^= 1 << this.#below(8);
    writeFileSync(join(path, name), bytes);
  }

  /** Reads everything back; unless `mayVanish`, all that was there is there still. */
  async #check(after: string, mayVanish = false): Promise<void> {
    const now = await this.#readAll();
    if (!mayVanish) {
      for (const [key, seen] of this.#seen) {
        if (seen.ok && !now.get(key)?.ok) this.#fail(`record ${key} vanished at ${after}`);
      }
    }
    this.#seen = now;
  }

  async #readAll(): Promise<Map<string, Seen>> {
    const all = new Map<string, Seen>();
    for (const run of this.#buffer.runs) {
      if (run.last < run.first) continue;
      // Not always from the beginning: a read may begin inside a segment.
      const middle = run.first + this.#below(run.last - run.first + 1);
      await this.#readRange(run, run.first, middle, all);
      await this.#readRange(run, middle + 1, run.last, all);
    }
    for (const [key, content] of this.#appended) {
      const [run, sequence] = key.split('/').map(Number) as [number, number];
      const stored = this.#buffer.runs.find((one) => one.counter === run);
      if (!stored || sequence < stored.first || all.has(key)) continue;
      if (this.#damaged.has(run)) continue;
      this.#fail(`${content.kind} ${key} is neither read nor missing (${stored.first}..${stored.last})`);
    }
    return all;
  }

  async #readRange(run: StoredRun, first: number, last: number, all: Map<string, Seen>): Promise<void> {
    for (let at = first; at <= last; ) {
      const records = await this.#buffer.read(run, at, last, 1 + this.#below(20_000));
      if (records.length === 0) this.#fail(`a read of ${keyOf(run.counter, at)} gives nothing`);
      const decoders = new Map<bigint, FrameDecoder>();
      for (const record of records) {
        const key = keyOf(run.counter, record.sequence);
        if (record.sequence !== at) this.#fail(`${key} is read where ${at} is due`);
        at++;
        const durable = run.durable.has(record.sequence);
        const place = { run: run.counter, sequence: record.sequence, durable };
        const was = this.#appended.get(key);
        if (!record.ok) {
          if (!this.#damaged.has(run.counter)) this.#fail(`${key} is not ok: ${record.why}`);
          all.set(key, { ...place, ok: false, samples: 0 });
          continue;
        }
        const content = this.#decode(record.kind, record.body, decoders);
        if (was && !isDeepStrictEqual(content, was))
          this.#fail(`${key} is ${JSON.stringify(content)}, was ${JSON.stringify(was)}`);
        // The buffer writes losses of its own.
        if (!was && content.kind !== 'loss')
          this.#fail(`${key} was never appended: ${JSON.stringify(content)}`);
        if (!was) this.#appended.set(key, content);
        all.set(key, { ...place, ok: true, content, samples: samplesOf(content) });
      }
    }
  }

  #decode(kind: RecordKind, body: Uint8Array, decoders: Map<bigint, FrameDecoder>): Content {
    if (kind === RecordKind.Event) return { kind: 'event', text: eventFromWire(decodeEventWire(body)).text };
    if (kind === RecordKind.Loss) return { kind: 'loss', loss: lossFromWire(decodeLossWire(body)) };
    if (kind === RecordKind.Dictionary) return { kind: 'dictionary' };
    const { hash, frame } = splitTick(body);
    const dictionary = this.#buffer.dictionaries.get(hash);
    if (!dictionary) return this.#fail(`the dictionary of a tick is gone`);
    const decoder = decoders.get(hash) ?? new FrameDecoder(dictionary);
    decoders.set(hash, decoder);
    const timestampMs = decoder.decode(frame);
    return contentOf({ dictionary, timestampMs, values: decoder.values, states: decoder.states });
  }

  #randomTick(): Tick {
    const dictionary = this.#groups[this.#below(3)]!;
    const slots = dictionary.series.length;
    const values = Float64Array.from({ length: slots }, () =>
      this.#random() < 0.8 ? this.#below(1_000) : this.#random() * 1e9,
    );
    const states = Uint8Array.from({ length: slots }, () =>
      this.#random() < 0.85 ? SlotState.Present : 1 + this.#below(4),
    );
    return { dictionary, timestampMs: this.#time.now, values, states };
  }

  #newDictionary(group: string): Dictionary {
    const version = this.#version++;
    return createDictionary(
      group,
      1000,
      Array.from({ length: 1 + this.#below(12) }, (_, i) => ({
        name: `m_${version}_${i}`,
        labels: [],
        kind: KINDS[i % 3]!,
        decimals: i % 3,
        help: '',
        unit: '',
      })),
    );
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #fail(what: string): never {
    throw new ModelError(`${what}\nafter: ${this.log.join(', ')}`);
  }
}

function contentOf({ dictionary, timestampMs, values, states }: Tick): Content {
  return {
    kind: 'tick',
    group: dictionary.group,
    at: timestampMs,
    values: [...values].map((value, slot) =>
      states[slot] === SlotState.Present ? value : `state ${states[slot]}`,
    ),
  };
}

function samplesOf(content: Content): number {
  if (content.kind === 'loss') return content.loss.samples;
  return content.kind === 'tick' ? content.values.filter((value) => typeof value === 'number').length : 0;
}

/** Throws with the seed in its message where a sequence of operations breaks the rule. */
export async function checkSequence(seed: number, operations: number): Promise<void> {
  const model = new BufferModel(seed);
  try {
    await model.run(operations);
  } catch (error) {
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
  } finally {
    await model[Symbol.asyncDispose]().catch(() => {});
  }
}
