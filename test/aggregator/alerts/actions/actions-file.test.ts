import { describe, expect, it } from 'vitest';
import { parseActionsFile } from '../../../../aggregator/alerts/actions/actions-file.ts';
import { EXECUTOR_KINDS } from '../../../../aggregator/alerts/actions/executors/registry.ts';
import { criticalAlert } from './fleet-of-actions.ts';

const read = (text: string) => parseActionsFile(text, 'actions.yaml', EXECUTOR_KINDS);

const FULL = `
mode: live
time_intervals:
  - name: nights
    time_intervals:
      - times: [{ start_time: '22:00', end_time: '24:00' }]
        location: Europe/Berlin
policies:
  - name: drain-critical
    matchers: ['rule=gpu-critical', 'severity=critical']
    for: 2m
    mode: live
    approval: none
    max_share: 0.1
    max_nodes: 4
    cool_down: 12h
    window: nights
    undo: on_resolve
    steps:
      - mark: degraded
      - checkpoint: { url: 'https://jobs.example/checkpoint', wait: 10m }
      - slurm: { drain: true }
`;

describe('the actions file', () => {
  it('says what is done about which alerts', () => {
    const { mode, policies } = read(FULL);
    expect(mode).toBe('live');
    const [policy] = policies;
    expect(policy).toMatchObject({ name: 'drain-critical', forMs: 120_000, approval: 'none', maxNodes: 4 });
    expect(policy!.steps.map(({ kind, takesOut }) => [kind, takesOut])).toEqual([
      ['mark', false],
      ['checkpoint', false],
      ['slurm', true],
    ]);
    expect(policy!.matches(criticalAlert('n1', 0))).toBe(true);
    expect(policy!.matches(criticalAlert('n1', 0, { rule: 'other' }))).toBe(false);
    expect(policy!.window!.contains(Date.UTC(2026, 0, 5, 21, 30))).toBe(true);
    expect(policy!.window!.contains(Date.UTC(2026, 0, 5, 12, 0))).toBe(false);
  });

  it('is careful where nothing is said: dry run, approval, a small share, undone by hand', () => {
    const { mode, policies } = read(
      "policies: [{ name: a, matchers: ['severity=critical'], steps: [{ mark: degraded }] }]",
    );
    expect(mode).toBe('dry_run');
    expect(policies[0]).toMatchObject({
      mode: 'dry_run',
      approval: 'required',
      maxShare: 0.05,
      coolDownMs: 6 * 3_600_000,
      undo: 'by_hand',
    });
  });

  it.each([
    [
      'max_share: 0.1',
      'max_share: 2',
      'actions.yaml:14:16: policies[0].max_share: must be a number from 0 to 1',
    ],
    ['undo: on_resolve', 'undoes: 1', 'actions.yaml:18:5: policies[0].undoes: is not a setting'],
    [
      'window: nights',
      'window: days',
      'actions.yaml:17:13: policies[0].window: "days" is not in time_intervals',
    ],
    [
      '- mark: degraded',
      '- reboot: now',
      'actions.yaml:20:17: policies[0].steps[0].reboot: is no kind of step',
    ],
    [
      "'rule=gpu-critical'",
      "'rule~gpu'",
      'actions.yaml:10:16: policies[0].matchers[0]: Cannot use matcher rule~gpu',
    ],
    [
      "['rule=gpu-critical', 'severity=critical']",
      '[]',
      'policies[0].matchers: must have at least one matcher',
    ],
    ['mode: live\ntime', 'mode: [\ntime', 'actions.yaml:'],
  ])('names the place of a fault (%s -> %s)', (from, to, fault) => {
    expect(FULL).toContain(from);
    expect(() => read(FULL.replace(from, to))).toThrow(fault);
  });

  it('refuses two policies of one name, whose actions could not be told apart', () => {
    const twice = `${FULL}  - ${FULL.slice(FULL.indexOf('name: drain')).trim()}\n`;
    expect(() => read(twice)).toThrow('policies[1].name: "drain-critical" is there twice');
  });
});
