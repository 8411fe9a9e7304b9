import { describe, expect, it } from 'vitest';
import { type Alert, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import type { AuditFact } from '../../../../aggregator/alerts/audit/audit-entry.ts';
import type { ControlStore } from '../../../../aggregator/alerts/control/control-store.ts';
import {
  compileMatcher,
  type Matcher,
  matchesAll,
  parseMatcher,
} from '../../../../aggregator/alerts/mute/matchers.ts';
import { RegexSet } from '../../../../aggregator/alerts/mute/regex-set.ts';
import type { Silence, SilenceRequest } from '../../../../aggregator/alerts/mute/silence.ts';
import { SilenceIndex } from '../../../../aggregator/alerts/mute/silence-index.ts';
import { Silences } from '../../../../aggregator/alerts/mute/silences.ts';
import { WholeRegex } from '../../../../aggregator/alerts/mute/whole-regex.ts';
import { startNats } from '../../../support/nats-server.ts';
import { seededRandom } from '../../../support/random.ts';
import { until } from '../../../support/wait.ts';
import { FakeShelf } from '../../ledger/open-shelf.ts';
import { alertOf } from '../alert-of.ts';
import { ManualClock } from '../block-of.ts';
import { openStore } from '../control/opened.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

interface Opened extends AsyncDisposable {
  readonly silences: Silences;
  readonly control: ControlStore;
  readonly clock: ManualClock;
  readonly audited: AuditFact[];
}

async function open(url?: string, clock = new ManualClock(), shelf = new FakeShelf()): Promise<Opened> {
  const control = await openStore(shelf, url);
  const audited: AuditFact[] = [];
  const silences = new Silences({
    control,
    audit: {
      async write(fact) {
        audited.push(fact);
        return { ...fact, id: '', shard: '' };
      },
    },
    clock,
    logger: silentLogger,
    registry: createRegistry(),
  });
  return {
    ...{ silences, control, clock, audited },
    async [Symbol.asyncDispose]() {
      silences[Symbol.dispose]();
      await control[Symbol.asyncDispose]();
    },
  };
}

function request(clock: ManualClock, matchers: string[], more: Partial<SilenceRequest> = {}): SilenceRequest {
  return {
    matchers: matchers.map(parseMatcher),
    endsAtMs: clock.ms + HOUR_MS,
    by: 'ann',
    comment: 'swap the fan',
    ...more,
  };
}

describe('silences', () => {
  it('cover what matches all of their matchers, from their start to their end', async () => {
    await using opened = await open();
    const { silences, clock } = opened;
    const alert = alertOf('3', 1, { labels: { pool: 'a' } });
    expect(silences.covering(alert)).toEqual([]);
    const set = await silences.set(
      request(clock, ['node="n1.rack"', 'severity!=info', 'pool=~"a|b"'], { startsAtMs: clock.ms + 1_000 }),
    );
    expect(silences.covering(alert)).toEqual([]);
    clock.ms += 1_000;
    expect(silences.covering(alert)).toEqual([set.id]);
    expect(silences.covering({ ...alert, severity: Severity.INFO })).toEqual([]);
    expect(silences.covering({ ...alert, labels: { pool: 'c' } })).toEqual([]);
    expect(silences.covering({ ...alert, node: 'n2' })).toEqual([]);
    clock.ms = set.endsAtMs - 1;
    expect(silences.covering(alert)).toEqual([set.id]);
    clock.ms++;
    expect(silences.covering(alert)).toEqual([]);
  });

  it('name each that covers an alert, found by value, by expression or by what must not be', async () => {
    await using opened = await open();
    const { silences, clock } = opened;
    const ids: string[] = [];
    for (const matchers of [['gpu="3"'], ['rule=~"h.t"'], ['pool!=""'], ['cluster="east"', 'rule=~"h.*"']])
      ids.push((await silences.set(request(clock, matchers))).id);
    await silences.set(request(clock, ['rule=~"cold|colder"']));
    expect(silences.covering(alertOf('3', 1, { labels: { pool: 'a' } }))).toEqual(ids.sort());
  });

  it.each<[string, (clock: ManualClock) => Partial<SilenceRequest>]>([
    ['no matcher', () => ({ matchers: [] })],
    ['matchers that cover everything', () => ({ matchers: [parseMatcher('pool=~".*"')] })],
    [
      'an operator that there is not',
      () => ({ matchers: [{ label: 'a', operator: '<' as never, value: '' }] }),
    ],
    ['a regular expression that is none', () => ({ matchers: [{ label: 'a', operator: '=~', value: '(' }] })],
    ['no author', () => ({ by: ' ' })],
    ['no comment', () => ({ comment: '' })],
    ['an end in the past', (clock) => ({ endsAtMs: clock.ms })],
    ['an end before its start', (clock) => ({ startsAtMs: clock.ms + 2 * HOUR_MS })],
    ['an end in more than a year', (clock) => ({ endsAtMs: clock.ms + 367 * DAY_MS })],
    ['an end that is no time', () => ({ endsAtMs: Number.NaN })],
  ])('with %s are refused', async (_, more) => {
    await using opened = await open();
    const { silences, clock, audited } = opened;
    await expect(silences.set(request(clock, ['node=a'], more(clock)))).rejects.toMatchObject({
      code: 'invalid_input',
    });
    expect(silences.list(true)).toEqual([]);
    expect(audited).toEqual([]);
  });

  it('that are active and get other matchers become new ones, so that an id goes on meaning what it covered', async () => {
    await using opened = await open();
    const { silences, clock, audited } = opened;
    const first = await silences.set(request(clock, ['node=a']));
    clock.ms += 1_000;
    const longer = await silences.set(
      request(clock, ['node=a'], { id: first.id, endsAtMs: clock.ms + DAY_MS, by: 'bob' }),
    );
    expect(longer).toMatchObject({ id: first.id, by: 'bob', startsAtMs: first.startsAtMs });
    const second = await silences.set(request(clock, ['node=b'], { id: first.id }));
    expect(second.id).not.toBe(first.id);
    expect(silences.list(false).map(({ id }) => id)).toEqual([second.id]);
    expect(silences.get(first.id)!.endsAtMs).toBe(clock.ms);
    expect(
      audited.map(({ what, who, subject, before }) => [what, who, subject, before !== undefined]),
    ).toEqual([
      ['silence.set', 'ann', first.id, false],
      ['silence.set', 'bob', first.id, true],
      ['silence.set', 'ann', second.id, true],
      ['silence.expire', 'ann', first.id, true],
    ]);
    expect(audited[0]).toMatchObject({ node: 'a', why: 'swap the fan', result: 'done' });
    await expect(silences.set(request(clock, ['node=b'], { id: 'no-such' }))).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('that have not begun may change as they are; those that are over are made anew', async () => {
    await using opened = await open();
    const { silences, clock } = opened;
    const startsAtMs = clock.ms + HOUR_MS / 2;
    const pending = await silences.set(request(clock, ['node=a'], { startsAtMs }));
    const changed = await silences.set(request(clock, ['node=b'], { id: pending.id, startsAtMs }));
    expect(changed.id).toBe(pending.id);
    await silences.expire(pending.id, 'ann');
    expect(silences.list(false)).toEqual([]);
    const anew = await silences.set(request(clock, ['node=b'], { id: pending.id }));
    expect(anew.id).not.toBe(pending.id);
    expect(await silences.expire(pending.id, 'ann')).toEqual(silences.get(pending.id));
    await expect(silences.expire('no-such', 'ann')).rejects.toMatchObject({ code: 'not_found' });
  });

  it('tell of changes, and of beginnings and ends by the clock: else what was held back is never sent', async () => {
    await using opened = await open();
    const { silences, clock } = opened;
    let told = 0;
    using _ = silences.onChange(() => told++);
    const silence = await silences.set(request(clock, ['node=a'], { startsAtMs: clock.ms + 1_000 }));
    expect(told).toBe(1);
    silences.advance();
    expect(told).toBe(1);
    clock.ms += 1_000;
    // Asked in between: the turn is told all the same.
    silences.covering(alertOf('0', 1));
    silences.advance();
    silences.advance();
    expect(told).toBe(2);
    clock.ms = silence.endsAtMs;
    silences.advance();
    expect(told).toBe(3);
  });

  it('are kept for five days after their end, then let go', async () => {
    await using opened = await open();
    const { silences, clock, control } = opened;
    const silence = await silences.set(request(clock, ['node=a']));
    clock.ms = silence.endsAtMs + 5 * DAY_MS;
    silences.advance();
    expect(silences.list(true)).toHaveLength(1);
    clock.ms++;
    const isGone = async (): Promise<boolean> => {
      silences.advance();
      return control.entries('').length === 0;
    };
    await until(isGone, { timeoutMs: 5_000, what: 'it is gone' });
    expect(silences.list(true)).toEqual([]);
  });

  it('are at most 1,000 at a time', async () => {
    await using opened = await open();
    const { silences, clock } = opened;
    for (let i = 0; i < 1_000; i++) await silences.set(request(clock, [`node=n${i}`]));
    await expect(silences.set(request(clock, ['node=more']))).rejects.toMatchObject({
      code: 'resource_exhausted',
    });
    await silences.expire(silences.list(false)[0]!.id, 'ann');
    await silences.set(request(clock, ['node=more']));
  });

  it('are the same for all aggregators, at once; documents that are none do no harm', async () => {
    await using nats = await startNats();
    const clock = new ManualClock();
    await using a = await open(nats.url, clock);
    await using b = await open(nats.url, clock);
    await a.control.put('silence/strange', { id: 'strange', matchers: [{ label: '' }] }, 0);
    const silence = await a.silences.set(request(clock, ['node="n1.rack"']));
    const alert = alertOf('0', 1);
    await until(async () => b.silences.covering(alert).length === 1, {
      timeoutMs: 5_000,
      what: 'b knows it',
    });
    await b.silences.expire(silence.id, 'bob');
    await until(async () => a.silences.covering(alert).length === 0, {
      timeoutMs: 5_000,
      what: 'a knows it',
    });
    expect(a.silences.list(true).map(({ id }) => id)).toEqual([silence.id]);
  });
});

/** Many of each kind that people write, most of them not for the alert asked. */
function manySilences(count: number): Silence[] {
  const kinds = [
    (n: number) => [`node="n${n}"`],
    (n: number) => [`gpu_uuid="GPU-${n}"`, 'rule=~"gpu-.*"'],
    (n: number) => ['cluster="east"', `rule="rule-${n % 50}"`, `node=~"n${n}.*"`],
    (n: number) => [`node=~"n(${n}|${n + 1})"`],
    (n: number) => [`node=~".*-${n}"`, 'severity!="critical"'],
    (n: number) => [`node=~"n${n}.*"`, `node!~".*${n % 10}"`, 'node!="n77"'],
    (n: number) => [`gpu_uuid=~"GPU-(${n}|${n + 7})"`, 'rack=""'],
    (n: number) => [`gpu_uuid=~".*\\\\b${n}"`],
    (n: number) => [`key!~".+"`, `gpu="${n % 8}"`, `rule!="rule-${n % 100}"`, `node=~"n.${n % 40}"`],
  ];
  return Array.from({ length: count }, (_, n) => {
    const matchers: Matcher[] = kinds[n % kinds.length]!(n).map(parseMatcher);
    return {
      ...{ id: `s${n}`, matchers, startsAtMs: 0, endsAtMs: 1, by: 'a', comment: 'b' },
      ...{ updatedAtMs: 0, fromMark: false },
    };
  });
}

const manyAlerts = (count: number): Alert[] =>
  Array.from({ length: count }, (_, i) =>
    alertOf(String(i % 8), 1, {
      ...{ id: `a${i}`, node: `n${i >> 3}`, gpuUuid: `GPU-${i}`, rule: `rule-${i % 100}` },
    }),
  );

/** How often expressions were asked; a spy would keep every call. */
function counted(method: 'after' | 'matches'): Disposable & { readonly calls: number } {
  const original = WholeRegex.prototype[method] as (...args: unknown[]) => unknown;
  let calls = 0;
  const counting = function (this: WholeRegex, ...args: unknown[]): unknown {
    calls++;
    return original.apply(this, args);
  };
  Object.assign(WholeRegex.prototype, { [method]: counting });
  return {
    get calls() {
      return calls;
    },
    [Symbol.dispose]: () => void Object.assign(WholeRegex.prototype, { [method]: original }),
  };
}

describe('the index of silences', () => {
  it('says the same as asking every silence, the second time from what it remembers as well', () => {
    const silences = manySilences(1_000);
    const alerts = [
      ...manyAlerts(1_000),
      alertOf('3', 1, { id: 'long', node: `n5${'1'.repeat(1_000)}`, gpuUuid: '', rule: '' }),
    ];
    const index = new SilenceIndex(silences);
    const asked = silences.map(({ id, matchers }) => [id, matchers.map(compileMatcher)] as const);
    let covered = 0;
    for (const alert of [...alerts, ...alerts]) {
      const each = asked.filter(([, matchers]) => matchesAll(matchers, alert)).map(([id]) => id);
      expect(index.covering(alert)).toEqual(each.sort());
      covered += each.length;
    }
    expect(covered).toBeGreaterThan(500);
  });

  // Lost without it: after each change of a silence nobody is told anything for seconds, or minutes.
  it('asks many expressions at once: a value costs its characters, not its silences', () => {
    const silences = Array.from({ length: 1_000 }, (_, n) => ({
      ...manySilences(1)[0]!,
      ...{
        id: `s${n}`,
        matchers: ['cluster=~"east|test"', n % 2 ? `gpu_uuid=~"GPU-${n}.*"` : `gpu_uuid=~".*-${n}"`].map(
          parseMatcher,
        ),
      },
    }));
    const alerts = manyAlerts(20_000);
    using steps = counted('after');
    using whole = counted('matches');
    const index = new SilenceIndex(silences);
    for (const alert of alerts) index.covering(alert);
    expect(whole.calls).toBe(0);
    // One by one it would be 20 million values of five to nine characters.
    expect(steps.calls).toBeGreaterThan(1_000);
    expect(steps.calls).toBeLessThan(5_000_000);
  });

  it('remembers so much and no more, and says the same beyond that', () => {
    // Each of 400 expressions is somewhere else after each text: no two texts share anything.
    const set = new RegexSet(Array.from({ length: 400 }, (_, n) => new WholeRegex(`.*${n % 2}.{${n % 9}}`)));
    using whole = counted('matches');
    const random = seededRandom(7);
    let found = 0;
    for (let i = 0; i < 400; i++) {
      const text = Array.from({ length: 12 }, () => (random() < 0.5 ? '0' : '1')).join('');
      const expected = Array.from({ length: 400 }, (_, n) => n).filter(
        (n) => text.at(-1 - (n % 9)) === String(n % 2),
      );
      expect([...set.matching(text)].sort((a, b) => a - b)).toEqual(expected);
      found += expected.length;
    }
    expect(found).toBeGreaterThan(0);
    expect(whole.calls, 'there was more than is remembered').toBeGreaterThan(0);
  });
});
