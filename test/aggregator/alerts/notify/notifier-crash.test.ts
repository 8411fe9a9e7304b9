import { describe, expect, test } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { unpackNotification } from '../../../../aggregator/alerts/notify/notification-codec.ts';
import type { Notifier } from '../../../../aggregator/alerts/notify/notifier.ts';
import { seededRandom } from '../../../support/random.ts';
import { gatedControl } from './memory-control.ts';
import { alertAt, boxKinds, type NotifyRig, notifyRig } from './notify-rig.ts';

const FILE = `
route: { receiver: people, group_by: [rule], group_wait: 5s, group_interval: 20s, repeat_interval: 12h }
receivers: [ { name: people, box: [ {} ] } ]
`;

/** What happens at one time. */
interface Scene {
  readonly transition: number;
  readonly severity?: Severity;
}

const SCENES: readonly Scene[] = [
  { transition: 1 },
  { transition: 3, severity: Severity.CRITICAL },
  { transition: 4, severity: Severity.CRITICAL },
];

interface Run {
  /** Places at which the notifier could be killed, in order. */
  readonly gates: readonly string[];
  /** What people got, ids with repeats. */
  /** Notifications that had arrived when it died, and of which the books did not say so. */
  readonly uncertain: number;
  readonly got: readonly { id: string; words: string }[];
}

/** Plays the scenes for so many groups; at the `killAt`-th place the notifier dies, and another one begins. */
async function play(groups: number, killAt: number): Promise<Run> {
  await using rig = notifyRig(FILE);
  const gates: string[] = [];
  let notifier: Notifier | undefined;
  let dies = false;
  let uncertain = 0;
  const open = async (): Promise<Notifier> => {
    const life = { dead: false };
    const gate = async (at: string): Promise<void> => {
      if (!life.dead) {
        gates.push(at);
        if (gates.length === killAt) [life.dead, dies] = [true, true];
      }
      // Whatever it had begun ends here, as it does with its process.
      if (life.dead) await new Promise<never>(() => {});
    };
    return rig.open({ control: gatedControl(rig.control, gate), kinds: boxKinds(rig.mail, rig.clock, gate) });
  };
  const pass = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      if (notifier === undefined || dies) {
        if (dies) uncertain = takenAndUnrecorded(rig);
        dies = false;
        notifier = await open();
      }
      await rig.pass(1_000, [notifier]);
    }
  };
  const random = seededRandom(groups);
  await pass(2);
  for (const scene of SCENES) {
    for (let group = 0; group < groups; group++) {
      for (const node of ['n1', 'n2'])
        rig.feed.say(
          alertAt(rig.clock, node, scene.transition, {
            rule: `rule-${group}`,
            ...(scene.severity !== undefined && { severity: scene.severity }),
          }),
        );
      if (random() < 0.2 && groups < 10) await pass(1);
    }
    // Longer than what a storm holds back what comes after it.
    await pass(groups > 10 ? 200 : 60);
  }
  return { gates, got: got(rig), uncertain };
}

function got(rig: NotifyRig): Run['got'] {
  return rig.mail.got.map(({ notification }) => ({
    id: notification.id,
    words: `${notification.kind} ${notification.status} ${notification.title} ${notification.firingCount}/${notification.resolvedCount}`,
  }));
}

const wordsOf = (run: Run): string[] => {
  const once = new Map(run.got.map(({ id, words }) => [id, words]));
  return [...once.values()].sort();
};

describe.each([
  { groups: 3, what: 'groups told by themselves' },
  { groups: 12, what: 'groups told in a storm' },
])('a notifier that is killed ($what)', ({ groups }) => {
  test('wherever it dies, the next one loses nothing and repeats only what may not have arrived', async () => {
    const whole = await play(groups, 0);
    expect(new Set(whole.got.map(({ id }) => id)).size).toBe(whole.got.length);
    expect(whole.got.length).toBe(groups > 10 ? SCENES.length : groups * SCENES.length);
    for (let killAt = 1; killAt <= whole.gates.length; killAt++) {
      const run = await play(groups, killAt);
      const place = `killed at ${killAt}: ${run.gates[killAt - 1]}`;
      expect(wordsOf(run), place).toEqual(wordsOf(whole));
      const repeats = run.got.length - new Set(run.got.map(({ id }) => id)).size;
      expect(repeats, place).toBe(run.uncertain);
    }
  }, 120_000);
});

function takenAndUnrecorded(rig: NotifyRig): number {
  const taken = new Set(rig.mail.got.map(({ notification }) => notification.id));
  return rig.control.entries('sent').filter(({ value }) => {
    const { sending } = value as { sending?: string };
    return sending !== undefined && taken.has(unpackNotification(sending)?.id ?? '');
  }).length;
}
