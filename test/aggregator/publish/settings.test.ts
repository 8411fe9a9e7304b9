import { expect, it } from 'vitest';
import { check } from '#shared/config/load-config.ts';
import { nameFilter } from '../../../aggregator/publish/name-filter.ts';
import { publishSettings } from '../../../aggregator/publish/settings.ts';
import { validationSettings } from '../../../aggregator/validate/settings.ts';

it('as shipped, rejected samples are published and ticks are not', () => {
  expect(check(publishSettings, {}).output).toEqual({
    rejected: true,
    ticks: { enabled: false, enriched: false },
    max_age: 86_400_000,
    max_bytes: 2 ** 30,
  });
  expect(check(validationSettings, {}).output).toEqual({
    enabled: true,
    future_tolerance: 600_000,
    past_tolerance: 86_400_000,
  });
});

it.each([
  ['a limit that nats-server refuses', { max_age: '1m' }, 'max_age'],
  ['a stream without room', { max_bytes: '1KiB' }, 'max_bytes'],
  ['a filter that lets nothing through', { ticks: { nodes: [] } }, 'ticks.nodes'],
  ['a setting that is not there', { ticks: { node: ['a'] } }, 'ticks.node'],
])('a mistake is named: %s', (_name, settings, path) => {
  expect(check(publishSettings, settings).faults?.map((fault) => fault.path)).toEqual([path]);
});

it.each([
  [undefined, 'anything', true],
  [['gpu-1'], 'gpu-1', true],
  [['gpu-1'], 'gpu-10', false],
  [['gpu-*'], 'gpu-10', true],
  [['gpu-*'], 'cpu-10', false],
  [['*_celsius'], 'gpu_temperature_celsius', true],
  [['*_celsius'], 'gpu_temperature_celsius_max', false],
  [['a*b*c'], 'a-b-c', true],
  [['a*b*c'], 'a-c', false],
  [['a*b*bc'], 'abc', false],
  [['a*a'], 'a', false],
  [['*'], '', true],
  [['x', 'y*'], 'yes', true],
  [['gpu.1*'], 'gpu-10', false],
] as const)('patterns %j and the name %s: %s', (patterns, name, expected) => {
  expect(nameFilter(patterns)(name)).toBe(expected);
});
