import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { check } from '#shared/config/load-config.ts';
import { agentConfigSchema } from '../../agent/config.ts';
import { aggregatorConfigSchema } from '../../aggregator/config.ts';
import { ROOT } from '../support/data.ts';

interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly environment?: Readonly<Record<string, string>>;
}

const FOLDER = join(ROOT, 'deploy', 'compose');
const read = (file: string): string => readFileSync(join(ROOT, 'deploy', file), 'utf8');
const compose = parse(read('compose/compose.yaml'), { merge: true }) as {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
};
const services = Object.entries(compose.services);
const agent = check(agentConfigSchema, parse(read('compose/agent.yaml')));
const aggregator = check(aggregatorConfigSchema, parse(read('compose/aggregator.yaml')));

// No container engine is needed here: what can be wrong without one is a name, a port or a path that does not agree.
describe('the compose file', () => {
  test('starts the five services of the pipeline', () => {
    expect(Object.keys(compose.services)).toEqual([
      'victoria-metrics',
      'nats',
      'aggregator',
      'agent',
      'grafana',
    ]);
  });

  test.each(services)('%s: pinned image, a health check, published on loopback alone', (_name, service) => {
    expect(service.image).toMatch(/:v?\d+\.\d+\.\d+/);
    expect(service.healthcheck?.test[0]).toBe('CMD');
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
  });

  test.each(services)('%s: what it mounts and builds from is there', (_name, service) => {
    for (const volume of service.volumes ?? []) {
      const source = volume.split(':')[0]!;
      if (source.startsWith('.')) expect(existsSync(join(FOLDER, source)), source).toBe(true);
      else expect(compose.volumes).toHaveProperty(source);
    }
    if (service.build)
      expect(existsSync(join(FOLDER, service.build.context, service.build.dockerfile))).toBe(true);
  });

  test('agent and aggregator take their configuration, which names the services and the published ports', () => {
    expect([agent.faults, aggregator.faults]).toEqual([undefined, undefined]);
    const { ingest, api, store, nats } = aggregator.output!;
    expect(agent.output!.aggregators).toMatchObject([{ host: 'aggregator', port: ingest.listen.port }]);
    expect(new URL(store!.url).hostname in compose.services).toBe(true);
    expect(nats!.servers.map((server) => server.split(':')[0]! in compose.services)).toEqual([true]);
    const published = compose.services.aggregator!.ports!.map((port) => Number(port.split(':')[2]));
    expect(published).toEqual([ingest.listen.port, api.listen.port]);
    expect(compose.services.agent!.ports).toEqual([`127.0.0.1:9400:${agent.output!.exporter.listen.port}`]);
  });

  test('data folders are volumes, or a new container begins with an empty buffer', () => {
    const mounted = (name: string): string[] =>
      compose.services[name]!.volumes!.map((volume) => volume.split(':')[1]!);
    expect(mounted('agent')).toContain(agent.output!.data_dir);
    expect(mounted('aggregator')).toContain(aggregator.output!.data_dir);
    const docker = read('docker/Dockerfile');
    for (const folder of [agent.output!.data_dir, aggregator.output!.data_dir])
      expect(docker).toContain(folder);
  });

  test('VictoriaMetrics deduplicates, and scrapes the port that the aggregator listens on', () => {
    expect(compose.services['victoria-metrics']!.command).toContain('-dedup.minScrapeInterval=1ms');
    const scrape = parse(read('compose/scrape.yaml')) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    const { port } = aggregator.output!.api.listen;
    expect(scrape.scrape_configs[0]!.static_configs[0]!.targets).toEqual([`aggregator:${port}`]);
    expect(aggregator.output!.api.allowed_hosts).toContain('aggregator');
  });
});

describe('the image', () => {
  const docker = read('docker/Dockerfile');

  test('is of the version that the compose file names, and has the programs that it runs', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    for (const name of ['agent', 'aggregator']) {
      const { image, command } = compose.services[name]!;
      expect(image).toBe(`gpufleet:${version}`);
      expect(existsSync(join(ROOT, command![0]!)), command![0]).toBe(true);
      expect(docker).toContain(`COPY ${name} ./${name}`);
    }
  });

  test('copies only what its ignore file lets through and what is there', () => {
    const allowed = read('docker/Dockerfile.dockerignore').split('\n');
    for (const [, sources] of docker.matchAll(/^COPY (?!--)(.+) \S+$/gm)) {
      for (const source of sources!.split(' ')) {
        expect(allowed).toContain(`!${source}`);
        expect(existsSync(join(ROOT, source)), source).toBe(true);
      }
    }
  });
});
