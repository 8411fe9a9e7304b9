import { expect, test } from 'vitest';
import { parseAddress, parseBytes, parseDuration, showAddress } from '#shared/config/values.ts';

test.each([
  ['500ms', 500],
  ['1m30s', 90_000],
  ['24h', 86_400_000],
  ['1.5s', 1_500],
  ['7d', 604_800_000],
  ['10', undefined],
  ['s', undefined],
  ['1s ', undefined],
  ['', undefined],
])('duration %j', (text, ms) => expect(parseDuration(text)).toBe(ms));

test.each([
  ['2GiB', 2 ** 31],
  ['512 MiB', 2 ** 29],
  [1024, 1024],
  ['1GB', undefined],
  [-1, undefined],
])('size %j', (text, bytes) => expect(parseBytes(text)).toBe(bytes));

test.each([
  ['gpu-1.example:7400', { host: 'gpu-1.example', port: 7400 }],
  ['[::1]:80', { host: '::1', port: 80 }],
  [':9400', { host: '127.0.0.1', port: 9400 }],
  ['host', undefined],
  ['host:70000', undefined],
  ['http://host:80', undefined],
])('address %j', (text, address) => {
  expect(parseAddress(text)).toEqual(address);
  if (address && !text.startsWith(':')) expect(showAddress(address)).toBe(text);
});
