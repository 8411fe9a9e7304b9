import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '../support/data.ts';
import { startLocalStack } from '../support/local-stack.ts';
import { hasNatsServer, hasVictoriaMetrics } from '../support/servers.ts';
import { tempDir } from '../support/temp.ts';
import { until } from '../support/wait.ts';

interface Target {
  readonly expr: string;
}
interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly description?: string;
  readonly datasource?: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly Target[];
}
interface Dashboard {
  readonly uid: string;
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { name: string; type: string; definition?: string }[] };
}

const FOLDER = join(ROOT, 'deploy', 'grafana');
const dashboard = JSON.parse(readFileSync(join(FOLDER, 'dashboards', 'fleet.json'), 'utf8')) as Dashboard;
const panels = dashboard.panels.filter(({ type }) => type !== 'row');
const variables = dashboard.templating.list.filter(({ type }) => type === 'query');
const provisioned = (file: string): unknown =>
  parse(readFileSync(join(FOLDER, 'provisioning', file), 'utf8'));

/** A panel's expression, or a variable's, with every variable at "All", as VictoriaMetrics gets it. */
function expressions(): [where: string, expression: string][] {
  const all = (text: string): string => text.replaceAll(/\$(cluster|node|gpu)\b/g, '.*');
  const ofPanels = panels.flatMap(({ title, targets }) =>
    targets!.map(({ expr }): [string, string] => [title, all(expr)]),
  );
  const ofVariables = variables.map(({ name, definition }): [string, string] => {
    const [, metric, label] = /^label_values\((.+), (\w+)\)$/.exec(definition!)!;
    return [`variable ${name}`, `group by (${label}) (${all(metric!)})`];
  });
  return [...ofPanels, ...ofVariables];
}

// Lost without it: an empty panel at the moment when somebody needs it.
describe.skipIf(!hasVictoriaMetrics() || !hasNatsServer())('the fleet dashboard', () => {
  test('every expression returns data from VictoriaMetrics behind a running agent and aggregator', async () => {
    await using dir = tempDir('grafana');
    await using stack = await startLocalStack(dir.path, ['--nodes', '1']);
    const empty = async (): Promise<string[]> => {
      const found: string[] = [];
      for (const [where, expression] of expressions()) {
        const url = `${stack.victoriaMetrics}/api/v1/query?query=${encodeURIComponent(expression)}`;
        const answer = (await (await fetch(url)).json()) as { data?: { result: unknown[] }; error?: string };
        if (!answer.data?.result.length) found.push(`${where}: ${answer.error ?? 'no data'}: ${expression}`);
      }
      return found;
    };
    let last: string[] = [];
    // The first scrapes of the aggregator come 10 s apart, and a rate needs two.
    await until(
      async () => {
        last = await empty();
        return last.length === 0;
      },
      {
        timeoutMs: 90_000,
        everyMs: 1000,
        what: 'every panel has data',
        detail: () => last.join('\n'),
      },
    );
    expect(expressions().length).toBeGreaterThan(40);
    // Where nothing was counted yet the zero is the panel's own: then the name is what can be wrong.
    const own = expressions().flatMap(([, expression]) =>
      expression.endsWith('or on() vector(0)') ? (/gpufleet_\w+/.exec(expression) ?? []) : [],
    );
    expect(own.length).toBeGreaterThan(0);
    const page = await (
      await fetch(`${stack.api}/metrics`, { headers: { authorization: `Bearer ${stack.token('viewer')}` } })
    ).text();
    for (const name of own) expect(page).toContain(`# TYPE ${name} `);
  }, 180_000);
});

describe('the provisioning', () => {
  const [source] = (
    provisioned('datasources/victoria-metrics.yaml') as { datasources: Record<string, unknown>[] }
  ).datasources;

  test('makes the datasource that the dashboard begins with', () => {
    const chosen = dashboard.templating.list.find(({ type }) => type === 'datasource') as unknown as {
      name: string;
      query: string;
      current: { value: string };
    };
    expect(source).toMatchObject({ type: chosen.query, uid: chosen.current.value, isDefault: true });
    for (const { title, datasource } of panels) expect(datasource?.uid, title).toBe(`$\{${chosen.name}}`);
  });

  test('loads the dashboards from where the compose file mounts them', () => {
    const { providers } = provisioned('dashboards/gpufleet.yaml') as {
      providers: { options: { path: string } }[];
    };
    const compose = readFileSync(join(ROOT, 'deploy', 'compose', 'compose.yaml'), 'utf8');
    expect(compose).toContain(`../grafana/dashboards:${providers[0]!.options.path}:ro`);
    expect(compose).toContain(`${(source!.url as string).slice(1)}: http://victoria-metrics:8428`);
    expect(readdirSync(join(FOLDER, 'dashboards'))).toEqual(['fleet.json']);
  });

  test('the panels have ids of their own, a description, and do not lie on each other', () => {
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    const taken = new Set<string>();
    for (const { title, description, gridPos: at } of panels) {
      expect(description, title).toBeTruthy();
      expect(at.x + at.w).toBeLessThanOrEqual(24);
      for (let x = at.x; x < at.x + at.w; x++) {
        for (let y = at.y; y < at.y + at.h; y++) {
          expect(taken, title).not.toContain(`${x},${y}`);
          taken.add(`${x},${y}`);
        }
      }
    }
  });
});
