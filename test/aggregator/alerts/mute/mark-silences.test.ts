import { describe, expect, it } from 'vitest';
import { createRegistry } from '#shared/instruments/registry.ts';
import { silentLogger } from '#shared/logging/logger.ts';
import { MarkSilences } from '../../../../aggregator/alerts/mute/mark-silences.ts';
import { Silences } from '../../../../aggregator/alerts/mute/silences.ts';
import { FakeShelf } from '../../ledger/open-shelf.ts';
import { alertOf } from '../alert-of.ts';
import { ManualClock } from '../block-of.ts';
import { openStore } from '../control/opened.ts';

const DAY_MS = 86_400_000;
const ALERT = alertOf('0', 1, { labels: { pool: 'a' } });

async function open() {
  const clock = new ManualClock();
  const shelf = new FakeShelf();
  const control = await openStore(shelf, undefined);
  const audited: string[] = [];
  const silences = new Silences({
    ...{ control, clock, logger: silentLogger, registry: createRegistry() },
    audit: {
      async write(fact) {
        audited.push(`${fact.who} ${fact.what}`);
        return { ...fact, id: '', shard: '' };
      },
    },
  });
  const marks = new MarkSilences({ silences, shard: 'agg-0', clock, logger: silentLogger });
  return { clock, shelf, silences, marks, audited };
}

const MARK = { state: 'maintenance', by: 'ann', why: 'new fan' };

describe('a node that is marked as in maintenance', () => {
  it('is silent until the mark is taken back: else its reboot pages somebody', async () => {
    const { silences, marks, audited } = await open();
    marks.syncMark('east', 'n1.rack', MARK);
    marks.syncMark('east', 'n1.rack', MARK);
    await marks.settled();
    const [id] = silences.covering(ALERT);
    expect(silences.get(id!)).toMatchObject({ fromMark: true, by: 'ann' });
    expect(silences.covering({ ...ALERT, node: 'n1' })).toEqual([]);
    expect(silences.covering({ ...ALERT, cluster: 'west' })).toEqual([]);
    await expect(silences.expire(id!, 'bob')).rejects.toMatchObject({ code: 'invalid_input' });
    marks.syncMark('east', 'n1.rack', MARK);
    await marks.settled();
    marks.syncMark('east', 'n1.rack', { ...MARK, state: 'degraded' });
    await marks.settled();
    expect(silences.covering(ALERT)).toEqual([]);
    expect(audited).toEqual(['ann silence.set', 'ann silence.expire']);
  });

  it('is silent again when it is marked again, and no longer than the mark says', async () => {
    const { silences, marks, clock } = await open();
    marks.syncMark('east', 'n1.rack', MARK);
    await marks.settled();
    marks.syncMark('east', 'n1.rack', undefined);
    await marks.settled();
    marks.syncMark('east', 'n1.rack', { ...MARK, untilMs: clock.ms + DAY_MS });
    await marks.settled();
    expect(silences.covering(ALERT)).toHaveLength(1);
    clock.ms += DAY_MS;
    expect(silences.covering(ALERT)).toEqual([]);
    marks.advance();
    await marks.settled();
    expect(silences.covering(ALERT)).toEqual([]);
  });

  it('stays silent for as long as a mark without an end is there', async () => {
    const { silences, marks, clock } = await open();
    marks.syncMark('east', 'n1.rack', MARK);
    await marks.settled();
    for (let day = 0; day < 100; day++) {
      clock.ms += DAY_MS;
      marks.advance();
      await marks.settled();
      expect(silences.covering(ALERT)).toHaveLength(1);
    }
  });

  it('becomes silent later where it could not be written at once', async () => {
    const { silences, marks, shelf } = await open();
    shelf.refuses = true;
    marks.syncMark('east', 'n1.rack', MARK);
    await marks.settled();
    expect(silences.covering(ALERT)).toEqual([]);
    shelf.refuses = false;
    marks.advance();
    await marks.settled();
    expect(silences.covering(ALERT)).toHaveLength(1);
  });

  // Lost without it: a node that works again, and of which nobody hears for a month.
  it('speaks where its mark was taken back and the aggregator was killed before it could say so', async () => {
    const { silences, marks, clock } = await open();
    marks.syncMark('east', 'n1.rack', MARK);
    marks.syncMark('east', 'n2', MARK);
    await marks.settled();
    const others = new MarkSilences({ silences, shard: 'agg-1', clock, logger: silentLogger });
    others.syncMark('east', 'n3', MARK);
    await others.settled();
    const next = new MarkSilences({ silences, shard: 'agg-0', clock, logger: silentLogger });
    next.syncMark('east', 'n2', MARK);
    next.endOthers();
    await next.settled();
    const silent = (node: string): boolean => silences.covering({ ...ALERT, node }).length > 0;
    expect([silent('n1.rack'), silent('n2'), silent('n3')]).toEqual([false, true, true]);
  });
});
