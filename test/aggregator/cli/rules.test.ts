import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { CommandContext, Output } from '../../../aggregator/cli/output.ts';
import { addRulesCommands } from '../../../aggregator/cli/rules-commands.ts';
import { ROOT } from '../../support/data.ts';
import { tempDir } from '../../support/temp.ts';

const dir = tempDir('rules-cli');
afterAll(() => dir[Symbol.asyncDispose]());
const SHIPPED = join(ROOT, 'aggregator/alerts/rules/default-rules.yaml');

function file(name: string, text: string): string {
  const path = join(dir.path, name);
  writeFileSync(path, text);
  return path;
}

/** What a command writes, and what it fails with, which main.ts writes to standard error before it exits with 1. */
async function gpufleet(args: readonly string[], json = false): Promise<{ out: string; failed: string }> {
  let out = '';
  let failed = '';
  const output = {
    json,
    write: (text: string) => {
      out += text;
    },
  } as Output;
  const program = new Command('gpufleet').exitOverride();
  program.command('rules').description('the alert rules that run');
  addRulesCommands(program, {
    run: async (command) => {
      await command({ output } as CommandContext).catch((error: Error) => {
        failed = error.message;
      });
    },
  });
  await program.parseAsync(['rules', ...args], { from: 'user' });
  return { out, failed };
}

describe('gpufleet rules check', () => {
  test('says that the shipped rules are good', async () => {
    const { out, failed } = await gpufleet(['check', SHIPPED]);
    expect(failed).toBe('');
    expect(out).toMatch(
      /default-rules\.yaml: \d+ rules, switched off: gpu-memory-full, cluster-nodes-down\n$/,
    );
  });

  // Lost without it: a bad file reaches the aggregator, or its author searches for the mistake.
  test('says where the faults are, and still which files are good', async () => {
    const bad = file(
      'bad.yaml',
      'rules:\n  - name: a\n    metric: up\n    severities:\n      - { severity: bad, above: x }\n',
    );
    const { out, failed } = await gpufleet(['check', bad, SHIPPED, join(dir.path, 'nowhere.yaml')]);
    expect(failed).toContain(
      `${bad}:5:21: rules[0].severities[0].severity: must be info, warning or critical`,
    );
    expect(failed).toContain(`${bad}:5:33: rules[0].severities[0].above: must be a number`);
    expect(failed).toMatch(/Cannot read .*nowhere\.yaml: ENOENT/);
    expect(out).toContain('default-rules.yaml: ');
  });

  test('warns of a metric that nobody knows', async () => {
    const odd = file(
      'odd.yaml',
      'rules:\n  - { name: a, metric: my_metric, severities: [{ severity: info, above: 1 }] }\n',
    );
    const { out, failed } = await gpufleet(['check', odd]);
    expect(failed).toBe('');
    expect(out).toContain('  warning: rule a: my_metric is not in the catalogue');
    expect(JSON.parse((await gpufleet(['check', odd], true)).out)).toMatchObject({
      files: [{ rules: 1 }],
      faults: [],
    });
  });
});

describe('gpufleet rules test', () => {
  test('counts what passed', async () => {
    const { out, failed } = await gpufleet(['test', join(ROOT, 'deploy/examples/rules/site.test.yaml')]);
    expect([out, failed]).toEqual(['2 of 2 tests passed\n', '']);
  });

  test('shows what differs and fails', async () => {
    const tests = `rule_files: [default]
tests:
  - name: a GPU that is lost
    events: [{ at: 10s, event: gpu_lost, node: n7, gpu: 3 }]
    alert_rule_test:
      - { eval_time: 20s, alertname: gpu-lost, exp_alerts: [{ exp_labels: { gpu: 4 } }] }
`;
    const path = file('lost.test.yaml', tests);
    const { out, failed } = await gpufleet(['test', path]);
    expect(out).toContain(
      `${path}: FAILED a GPU that is lost\n  at 20s, rule gpu-lost: missing: firing {gpu="4"}\n`,
    );
    expect(out).toContain('rule gpu-lost: not expected: firing {severity="critical"');
    expect(failed).toBe('1 of 1 tests failed');
    expect(JSON.parse((await gpufleet(['test', path], true)).out).tests[0].passed).toBe(false);
  });
});

describe('gpufleet rules import', () => {
  const PROMETHEUS = `groups:
  - name: gpu
    rules:
      - { alert: Hot, expr: DCGM_FI_DEV_GPU_TEMP > 85, for: 5m, labels: { severity: warning } }
      - { alert: Slow, expr: 'predict_linear(x[1h], 60) > 1', labels: { severity: warning } }
`;

  test('writes the rules, the rest, and a report', async () => {
    const [out, rest] = [join(dir.path, 'out.yaml'), join(dir.path, 'rest.yaml')];
    const said = await gpufleet(['import', file('p.yaml', PROMETHEUS), '-o', out, '--rest', rest]);
    expect(said.failed).toBe('');
    expect(said.out).toBe(
      'gpu/Hot: hot\ngpu/Slow: not translated (predict_linear is not of the stream)\n1 of 2 rules translated\n',
    );
    expect(parse(readFileSync(out, 'utf8')).rules).toHaveLength(1);
    expect(parse(readFileSync(rest, 'utf8')).groups[0].rules[0].alert).toBe('Slow');
    expect((await gpufleet(['check', out])).failed).toBe('');
  });

  test('without files is one document that can be piped on', async () => {
    const { out } = await gpufleet(['import', file('q.yaml', PROMETHEUS)]);
    expect(parse(out).rules.map((rule: { name: string }) => rule.name)).toEqual(['hot']);
    expect(out).toContain('# gpu/Slow: not translated');
    expect(existsSync(join(dir.path, 'undefined'))).toBe(false);
  });

  test('of something else fails', async () => {
    expect((await gpufleet(['import', file('r.yaml', 'rules: []')])).failed).toMatch(
      /no rules file of Prometheus/,
    );
    expect((await gpufleet(['import', join(dir.path, 'none.yaml')])).failed).toMatch(/^Cannot read .*ENOENT/);
  });
});
