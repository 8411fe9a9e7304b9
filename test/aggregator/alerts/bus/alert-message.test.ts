import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { AcknowledgementSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  alertSubject,
  decodeAlert,
  encodeAlert,
  judge,
  standingOf,
} from '../../../../aggregator/alerts/bus/alert-message.ts';
import { alertOf } from '../alert-of.ts';
import { START_MS } from '../block-of.ts';

describe('an alert on the wire', () => {
  it('is protobuf JSON with the names of the .proto file, which subscribers of any language read', () => {
    const alert = alertOf('3', 1, { gpuUuid: 'GPU-3', value: 96 });
    expect(JSON.parse(encodeAlert(alert))).toMatchObject({
      gpu_uuid: 'GPU-3',
      state: 'ALERT_STATE_FIRING',
      severity: 'SEVERITY_CRITICAL',
      value: 96,
      transition: '1',
      updated_at: '2026-01-01T00:00:01Z',
    });
    expect(decodeAlert(encodeAlert(alert))).toEqual(alert);
  });

  it('of a newer version is read without what is new, and what is no alert is none', () => {
    expect(decodeAlert('{"id":"x","colour":"red"}')?.id).toBe('x');
    expect(decodeAlert('hello')).toBeUndefined();
  });

  it('has one subject for each alert: a swapped GPU does not write over the old one', () => {
    expect(alertSubject(alertOf('3', 1))).toBe('gpufleet.alerts.east.n1%2Erack.3.hot._');
    expect(alertSubject(alertOf('3', 1, { gpuUuid: 'GPU-a' }))).toBe(
      'gpufleet.alerts.east.n1%2Erack.GPU-a.hot._',
    );
  });
});

describe('of two owners', () => {
  const theirs = standingOf(alertOf('0', 3));
  const ours = (transition: number, more: Parameters<typeof alertOf>[2] = {}) =>
    standingOf(alertOf('0', transition, more));

  it('the one that counts on follows', () => expect(judge(ours(4), theirs)).toBe('publish'));
  it('the same transition is stored already', () => expect(judge(ours(3), theirs)).toBe('stored'));
  it('one that says the same again is a repeat', () =>
    expect(judge(ours(1, { updatedAt: timestampFromMs(START_MS + 9000) }), theirs)).toBe('repeat'));
  // It has the time of the same sample: taken for stored, who works on an alert would be lost with the aggregator.
  it('one that was acknowledged since is news', () => {
    const acknowledged = create(AcknowledgementSchema, { by: 'ada', at: timestampFromMs(START_MS + 5000) });
    const { updatedAt } = alertOf('0', 3);
    expect(judge(ours(4, { state: AlertState.FIRING, acknowledged, updatedAt }), theirs)).toBe('publish');
  });
  // A new owner's first look at a GPU that is still hot: people would be told again of what somebody works on.
  it('one that does not know of an acknowledgement takes none away, and of two the later counts', () => {
    const at = (second: number) => ({
      acknowledged: create(AcknowledgementSchema, {
        by: 'ada',
        at: timestampFromMs(START_MS + second * 1000),
      }),
    });
    const known = standingOf(alertOf('0', 5, at(60)));
    expect(judge(ours(1, { updatedAt: timestampFromMs(START_MS + 90_000) }), known)).toBe('repeat');
    expect(judge(ours(3, at(50)), known)).toBe('repeat');
    expect(judge(ours(3, at(70)), known)).toBe('publish');
  });
  it('one with a newer sample is published though it counted less', () => {
    expect(judge(ours(2, { updatedAt: timestampFromMs(START_MS + 9000) }), theirs)).toBe('publish');
  });
  it('one with an older sample is refused', () => {
    expect(judge(ours(2, { state: AlertState.RESOLVED }), theirs)).toBe('superseded');
    expect(judge(ours(1, { severity: Severity.WARNING }), theirs)).toBe('superseded');
  });
});
