import { readFile } from 'node:fs/promises';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type Alert, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  type InhibitRule,
  readInhibitRules,
  shippedInhibitRules,
} from '../../../../aggregator/alerts/mute/inhibit-rules.ts';
import { Inhibitions } from '../../../../aggregator/alerts/mute/inhibitions.ts';
import { alertOf } from '../alert-of.ts';
import { START_MS } from '../block-of.ts';

function rules(...written: { source: string[]; target: string[]; equal?: string[] }[]): InhibitRule[] {
  const content = written.map(({ source, target, equal = ['node'] }) => ({
    ...{ source_matchers: source, target_matchers: target, equal },
  }));
  return readInhibitRules(content, (path, message) => {
    throw new Error(`${path.join('.')}: ${message}`);
  });
}

/** An alert of a rule, fired (odd transition) or resolved (even). */
function alert(
  rule: string,
  more: Partial<Omit<Alert, '$typeName' | '$unknown'>> = {},
  transition = 1,
): Alert {
  const gpu = more.gpu ?? '0';
  const node = more.node ?? 'n1';
  return alertOf(gpu, transition, { id: `${node}/${gpu}/${rule}`, rule, node, ...more });
}

function firing(list: readonly InhibitRule[], ...alerts: Alert[]): Inhibitions {
  const inhibitions = new Inhibitions({ rules: list, alerts: [] });
  for (const one of alerts) inhibitions.note(one);
  return inhibitions;
}

const DOWN = rules({ source: ['rule=down'], target: ['rule!=down'] });

describe('an alert that another makes needless', () => {
  it('is held back while the other fires, whichever came first', () => {
    const down = alert('down', { gpu: '' });
    const hot = alert('hot');
    const inhibitions = firing(DOWN, hot, down);
    expect(inhibitions.inhibiting(hot)).toEqual([down.id]);
    expect(firing(DOWN, down, hot).inhibiting(hot)).toEqual([down.id]);
    inhibitions.note({ ...down, state: AlertState.RESOLVED, transition: 2n });
    expect(inhibitions.inhibiting(hot)).toEqual([]);
  });

  it('is not held back by another node, a pending alert, or itself', () => {
    const down = alert('down', { gpu: '' });
    expect(firing(DOWN, down).inhibiting(alert('hot', { node: 'n2' }))).toEqual([]);
    expect(firing(DOWN, { ...down, state: AlertState.PENDING }).inhibiting(alert('hot'))).toEqual([]);
    const all = rules({ source: ['node!=""'], target: ['node!=""'] });
    expect(firing(all, down).inhibiting(down)).toEqual([]);
  });

  it('is not held back by another that matches both sides, as it does', () => {
    const both = rules({ source: ['severity=critical'], target: ['severity=~"critical|warning"'] });
    const [a, b] = [alert('a'), alert('b')];
    const inhibitions = firing(both, a, b);
    expect([inhibitions.inhibiting(a), inhibitions.inhibiting(b)]).toEqual([[], []]);
    expect(inhibitions.inhibiting(alert('c', { severity: Severity.WARNING }))).toEqual([a.id, b.id]);
  });

  it('follows the severity of its source', () => {
    const list = rules({ source: ['severity=critical'], target: ['severity=warning'] });
    const source = alert('a');
    const target = alert('b', { severity: Severity.WARNING });
    const inhibitions = firing(list, source);
    expect(inhibitions.inhibiting(target)).toEqual([source.id]);
    inhibitions.note({ ...source, severity: Severity.WARNING, transition: 2n });
    expect(inhibitions.inhibiting(target)).toEqual([]);
  });

  it('is not held back again by a message of its source that comes late', () => {
    const down = alert('down', { gpu: '' });
    const inhibitions = firing(DOWN, alert('down', { gpu: '' }, 2), down);
    expect(inhibitions.inhibiting(alert('hot'))).toEqual([]);
    inhibitions.note({ ...down, transition: 3n });
    expect(inhibitions.inhibiting(alert('hot'))).toEqual([down.id]);
    // An older end does not end the newer.
    inhibitions.note(alert('down', { gpu: '' }, 2));
    expect(inhibitions.inhibiting(alert('hot'))).toEqual([down.id]);
  });

  it.each([
    [
      2,
      [
        ['a', 'b'],
        ['b', 'a'],
      ],
    ],
    [
      3,
      [
        ['a', 'b'],
        ['b', 'c'],
        ['c', 'a'],
      ],
    ],
    [
      4,
      [
        ['a', 'b'],
        ['b', 'c'],
        ['c', 'd'],
        ['d', 'a'],
        ['b', 'a'],
      ],
    ],
  ])('in a circle of %i is not silent together with all others: else nobody hears of it', (_, edges) => {
    const list = rules(
      ...edges.map(([source, target]) => ({ source: [`rule=${source}`], target: [`rule=${target}`] })),
    );
    const names = [...new Set(edges.flat())];
    const alerts = names.map((name) => alert(name));
    for (const order of [alerts, [...alerts].reverse()]) {
      const inhibitions = firing(list, ...order);
      const silent = order.filter((one) => inhibitions.inhibiting(one).length > 0);
      expect(silent.length).toBeGreaterThan(0);
      expect(silent.length).toBeLessThan(alerts.length);
    }
  });

  it('in a circle is the less severe, then the younger', () => {
    const list = rules(
      { source: ['rule=a'], target: ['rule=b'] },
      { source: ['rule=b'], target: ['rule=a'] },
    );
    const a = alert('a', { severity: Severity.WARNING });
    const b = alert('b');
    expect(firing(list, a, b).inhibiting(a)).toEqual([b.id]);
    expect(firing(list, a, b).inhibiting(b)).toEqual([]);
    const older = { ...a, severity: Severity.CRITICAL, startedAt: timestampFromMs(START_MS) };
    const younger = { ...b, startedAt: timestampFromMs(START_MS + 1) };
    expect(firing(list, older, younger).inhibiting(younger)).toEqual([older.id]);
    expect(firing(list, older, younger).inhibiting(older)).toEqual([]);
  });

  it('is answered in little time among 100,000 others, with at most 8 names', () => {
    const list = rules({ source: ['rule=~"s.*"'], target: ['rule=~"t.*"'], equal: ['cluster'] });
    const inhibitions = new Inhibitions({ rules: list, alerts: [] });
    const [source, target] = [alert('s'), alert('t')];
    for (let i = 0; i < 100_000; i++) inhibitions.note({ ...source, id: `s${i}` });
    for (let i = 0; i < 100_000; i++)
      if (inhibitions.inhibiting(target).length !== 8) throw new Error('not 8');
    // What comes beyond the limit holds nobody back, and frees nobody either.
    const beyond = alert('s', { node: 'beyond', cluster: 'west' });
    inhibitions.note(beyond);
    expect(inhibitions.inhibiting(alert('t', { cluster: 'west' }))).toEqual([]);
  });

  it('is judged by other rules after they were read again', () => {
    const down = alert('down', { gpu: '' });
    const inhibitions = firing(DOWN, down);
    inhibitions.setRules(rules({ source: ['rule=down'], target: ['rule=hot'] }), [down]);
    expect(inhibitions.inhibiting(alert('hot'))).toEqual([down.id]);
    expect(inhibitions.inhibiting(alert('cold'))).toEqual([]);
  });
});

describe('rules of inhibition', () => {
  it('say where they are wrong, and the right ones are read', () => {
    const faults: string[] = [];
    const good = { source_matchers: ['rule=a'], target_matchers: ['rule=b'] };
    const read = readInhibitRules(
      [
        good,
        { ...good, equals: [] },
        { ...good, target_matchers: [] },
        { ...good, source_matchers: ['a', 'rule=~"("'] },
        7,
      ],
      (path, message) => faults.push(`${path.join('.')}: ${message}`),
    );
    expect(read).toHaveLength(1);
    expect(faults).toHaveLength(5);
    expect(faults.slice(2, 4)).toEqual([
      expect.stringMatching(/^3\.source_matchers\.0: Cannot use matcher a/),
      expect.stringMatching(/^3\.source_matchers\.1: Cannot use matcher rule=~\(/),
    ]);
  });

  it('that are shipped name rules that are shipped: else they would hold back nothing', async () => {
    const file = new URL('../../../../aggregator/alerts/rules/default-rules.yaml', import.meta.url);
    const { rules: shipped } = parse(await readFile(file, 'utf8')) as { rules: { name: string }[] };
    for (const { source, target } of await shippedInhibitRules()) {
      for (const matcher of [...source, ...target].filter(({ label }) => label === 'rule')) {
        const named = matcher.value.split('|').map((name) => new RegExp(`^(?:${name})$`));
        for (const name of named) expect(shipped.some((rule) => name.test(rule.name))).toBe(true);
      }
    }
  });

  it.each<[string, Alert, Alert, boolean]>([
    ['a node that is down, its GPUs', alert('node-down', { gpu: '' }), alert('gpu-xid-critical'), true],
    [
      'a node that is down, another',
      alert('node-down', { gpu: '' }),
      alert('gpu-lost', { node: 'n2' }),
      false,
    ],
    ['a GPU, its node', alert('gpu-lost'), alert('node-down', { gpu: '' }), false],
    ['a lost GPU, its state', alert('gpu-lost'), alert('gpu-critical'), true],
    ['a lost GPU, another', alert('gpu-lost'), alert('gpu-critical', { gpu: '1' }), false],
    [
      'a critical GPU, its anomaly',
      alert('gpu-critical'),
      alert('gpu-anomaly', { severity: Severity.WARNING }),
      true,
    ],
    ['a critical GPU, its Xid', alert('gpu-critical'), alert('gpu-xid-critical'), false],
    [
      'a critical GPU, a warning of its node',
      alert('gpu-critical'),
      alert('disk-full', { gpu: '', severity: Severity.WARNING }),
      false,
    ],
    [
      'a rack, its node',
      alert('rack-nodes-down', { node: '', gpu: '', labels: { rack: 'r1' } }),
      alert('node-down', { gpu: '', labels: { rack: 'r1' } }),
      true,
    ],
    [
      'a rack, a node of none',
      alert('rack-nodes-down', { node: '', gpu: '', labels: {} }),
      alert('node-down', { gpu: '', labels: {} }),
      false,
    ],
  ])('that are shipped: %s', async (_, source, target, isHeldBack) => {
    const inhibitions = firing(await shippedInhibitRules(), source, target);
    expect(inhibitions.inhibiting(target)).toEqual(isHeldBack ? [source.id] : []);
  });
});
