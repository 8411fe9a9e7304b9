import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import * as v from 'valibot';
import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { alertId } from '../../../../aggregator/alerts/alert-id.ts';
import type { AlertFeed } from '../../../../aggregator/alerts/notify/alert-feed.ts';
import type { Delivery, Notification, Receiver } from '../../../../aggregator/alerts/notify/notification.ts';
import { Notifier, type NotifierOptions } from '../../../../aggregator/alerts/notify/notifier.ts';
import {
  commonSettings,
  type ReceiverKind,
} from '../../../../aggregator/alerts/notify/receivers/receiver-kind.ts';
import type { NotifyShelf } from '../../../../aggregator/alerts/notify/shelf-docs.ts';
import { seededRandom } from '../../../support/random.ts';
import { type TempDir, tempDir } from '../../../support/temp.ts';
import { ManualClock } from '../block-of.ts';
import { MemoryControl } from './memory-control.ts';

/** The last state of each alert, as a test says it. */
export class ManualFeed implements AlertFeed {
  loaded = true;
  readonly states = new Map<string, Alert>();
  readonly #listeners = new Set<(alert: Alert) => void>();

  alerts(): Iterable<Alert> {
    return this.states.values();
  }

  subscribe(listener: (alert: Alert) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  say(alert: Alert): void {
    this.states.set(alert.id, alert);
    for (const listener of this.#listeners) listener(alert);
  }
}

export class MemoryShelf implements NotifyShelf {
  readonly kept = new Map<string, unknown>();

  async write(changes: readonly { readonly key: string; readonly value?: unknown }[]): Promise<void> {
    for (const { key, value } of changes) {
      if (value === undefined) this.kept.delete(key);
      else this.kept.set(key, JSON.parse(JSON.stringify(value)));
    }
  }

  async *entries(prefix: string): AsyncIterable<readonly [string, unknown]> {
    for (const key of [...this.kept.keys()].sort())
      if (key.startsWith(prefix)) yield [key, this.kept.get(key)];
  }
}

/** What people got, and how the way to them answers. */
export class Mailbox {
  readonly got: { notification: Notification; atMs: number }[] = [];
  answer: (notification: Notification) => Delivery = () => ({ outcome: 'sent' });
  tries = 0;
}

export interface NotifyRig extends AsyncDisposable {
  readonly clock: ManualClock;
  readonly control: MemoryControl;
  readonly feed: ManualFeed;
  readonly shelf: MemoryShelf;
  readonly mail: Mailbox;
  readonly silenced: Set<string>;
  readonly dead: string[];
  readonly folder: string;
  /** Turns of the event loop that what was begun at one time may take: work on many alerts goes in slices. */
  rounds: number;
  unsilence(): void;
  open(more?: Partial<NotifierOptions>): Promise<Notifier>;
  /** Lets time pass in steps, with all that happens within it. */
  pass(ms: number, notifiers: readonly Notifier[], stepMs?: number): Promise<void>;
}

const settings = v.strictObject({ ...commonSettings });

export const PLAIN_FILE = `
route: { receiver: people, group_by: [cluster, rule], group_wait: 10s, group_interval: 5m, repeat_interval: 4h }
receivers: [ { name: people, box: [ {} ] } ]
`;

export function notifyRig(file = PLAIN_FILE): NotifyRig {
  const folder: TempDir = tempDir('notify');
  const path = join(folder.path, 'notify.yaml');
  writeFileSync(path, file);
  const clock = new ManualClock();
  const control = new MemoryControl();
  const [feed, shelf, mail] = [new ManualFeed(), new MemoryShelf(), new Mailbox()];
  const silenced = new Set<string>();
  const dead: string[] = [];
  const listeners = new Set<() => void>();
  const random = seededRandom(7);
  const kinds = boxKinds(mail, clock);
  const rig: NotifyRig = {
    ...{ clock, control, feed, shelf, mail, silenced, dead, folder: folder.path, rounds: 8 },
    unsilence() {
      silenced.clear();
      for (const listener of listeners) listener();
    },
    open: (more = {}) =>
      Notifier.open({
        ...{ file: path, control, feed, shelf, clock, random, kinds, clusterFeed: undefined, shard: 'a' },
        audit: { write: async () => {} },
        silences: {
          covering: (alert) => (silenced.has(alert.id) ? ['s'] : []),
          onChange(listener) {
            listeners.add(listener);
            return { [Symbol.dispose]: () => void listeners.delete(listener) };
          },
        },
        logger: silentLogger,
        registry: createRegistry(),
        onDead: (endpoint, _, why) => dead.push(`${endpoint.id}: ${why}`),
        ...more,
      }),
    async pass(ms, notifiers, stepMs = 1_000) {
      for (let passed = 0; passed < ms; passed += stepMs) {
        clock.ms += stepMs;
        for (const notifier of notifiers) notifier.tick();
        await settled(rig.rounds);
        for (const notifier of notifiers) notifier.tick();
        await settled(rig.rounds);
      }
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
  return rig;
}

/** What was begun and needs no time has ended. */
export async function settled(rounds = 8): Promise<void> {
  for (let round = 0; round < rounds; round++) await setImmediate();
}

export function alertAt(
  clock: ManualClock,
  node: string,
  transition: number,
  more: Partial<Omit<Alert, '$typeName' | '$unknown'>> = {},
): Alert {
  const rule = more.rule ?? 'hot';
  return create(AlertSchema, {
    ...{ id: alertId('east', node, more.gpu ?? '', rule, ''), rule, cluster: 'east', node },
    state: transition % 2 === 1 ? AlertState.FIRING : AlertState.RESOLVED,
    severity: Severity.WARNING,
    summary: `${rule} on ${node}`,
    transition: BigInt(transition),
    startedAt: timestampFromMs(clock.ms),
    updatedAt: timestampFromMs(clock.ms),
    ...more,
  });
}

/** `gate` is awaited before a notification is taken and after. */
export function boxKinds(
  mail: Mailbox,
  clock: ManualClock,
  gate: (at: string) => Promise<void> = () => Promise.resolve(),
): Record<string, ReceiverKind> {
  return { box: { schema: settings, open: async () => boxOf(mail, clock, gate) } };
}

function boxOf(mail: Mailbox, clock: ManualClock, gate: (at: string) => Promise<void>): Receiver {
  return {
    kind: 'box',
    async send(notification) {
      mail.tries++;
      await gate('send');
      const delivery = mail.answer(notification);
      if (delivery.outcome === 'sent') mail.got.push({ notification, atMs: clock.ms });
      await gate('did send');
      return delivery;
    },
    async [Symbol.asyncDispose]() {},
  };
}
