import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
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
  it('one with a newer sample is published though it counted less', () => {
    expect(judge(ours(2, { updatedAt: timestampFromMs(START_MS + 9000) }), theirs)).toBe('publish');
  });
  it('one with an older sample is refused', () => {
    expect(judge(ours(2, { state: AlertState.RESOLVED }), theirs)).toBe('superseded');
    expect(judge(ours(1, { severity: Severity.WARNING }), theirs)).toBe('superseded');
  });
});
