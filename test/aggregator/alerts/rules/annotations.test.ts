import { describe, expect, it } from 'vitest';
import { Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  annotate,
  compileTemplate,
  render,
  type Template,
} from '../../../../aggregator/alerts/rules/annotations.ts';
import { alertOf } from '../alert-of.ts';

const ALERT = alertOf('3', 1, {
  gpuUuid: 'GPU-3',
  gpuModel: 'H100',
  key: 'mig_id=1',
  severity: Severity.WARNING,
  value: 96.123456789,
  threshold: 95,
  summary: 'GPU temperature is 96 °C',
  labels: { rack: 'r7', share: '0.123', since: '5400', words: 'a few' },
});

function compiled(text: string, names: readonly string[] = []): Template {
  const template = compileTemplate(text, names);
  if ('fault' in template) throw new Error(template.fault);
  return template;
}

describe('a template', () => {
  it.each([
    ['GPU {{ gpu }} of {{node}} ({{ cluster }})', 'GPU 3 of n1.rack (east)'],
    ['{{ gpu_uuid }} {{ gpu_model }} {{ rule }} {{ key }}', 'GPU-3 H100 hot mig_id=1'],
    ['{{ severity }}: {{ summary }}', 'warning: GPU temperature is 96 °C'],
    ['{{ value }} over {{ threshold }}', '96.1235 over 95'],
    ['{{ value | round }}', '96'],
    ['{{ value | celsius }}', '96.1 °C'],
    ['{{ labels.share | percent }}', '12.3 %'],
    ['{{ labels.since | duration }}', '1 h 30 min'],
    ['{{ labels.since | bytes }}', '5.3 KiB'],
    ['{{ value | round | percent }}', '9600 %'],
    // A text is no number: it stays, rather than becoming NaN in a pager.
    ['{{ labels.words | round }}', 'a few'],
    ['rack {{ labels.rack }}{{ labels.row }}.', 'rack r7.'],
    ['{{ labels.constructor }}', ''],
    ['}} stays, { too', '}} stays, { too'],
    ['', ''],
  ])('%s', (text, expected) => {
    expect(render(compiled(text), ALERT)).toBe(expected);
  });

  it.each([
    ['{{ hostname }}', 'unknown name "hostname", known are node', 0],
    ['on {{ $labels.node }}', 'unknown name "$labels.node"', 3],
    ['{{ constructor }}', 'unknown name "constructor"', 0],
    ['{{ value | toString }}', 'unknown filter "toString", known are percent', 0],
    ['{{ value | round | round | round | round | round }}', 'more than 4 filters', 0],
    ['{{ node }} {{ gpu', '{{ has no }}', 11],
    ['{{ }}', 'unknown name ""', 0],
    ['x'.repeat(4001), 'must be at most 4000 characters', 0],
  ])('%s is refused when it is read, not found empty at night', (text, fault, offset) => {
    expect(compileTemplate(text)).toEqual({ fault: expect.stringContaining(fault), offset });
  });

  it('knows the names that its user brings', () => {
    const template = compiled('{{ firing_count }} firing, {{ share | percent }}', ['firing_count', 'share']);
    expect(render(template, ALERT, { firing_count: 12, share: 0.5 })).toBe('12 firing, 50 %');
  });

  it('makes at most a thousand characters, whatever an agent puts into a label', () => {
    const alert = alertOf('0', 1, { labels: { long: 'x'.repeat(900) } });
    const text = render(compiled('{{ labels.long }}{{ labels.long }}'), alert);
    expect(text).toHaveLength(1000);
    expect(text.endsWith('…')).toBe(true);
    expect(render(compiled('y'.repeat(3000)), alert, {}, 50)).toHaveLength(50);
  });
});

it('a rule says all its annotations of an alert', () => {
  const rule = {
    ...{ name: 'hot', summary: 'Hot', addLabels: {} },
    annotations: { description: 'Look at {{ node }}', runbook_url: 'https://wiki/hot' },
  };
  expect(annotate(rule, ALERT)).toEqual({ description: 'Look at n1.rack', runbook_url: 'https://wiki/hot' });
});
