/**
 * Units as AMD's driver and tools write them, to the catalogue's base units: one exact operation each. MB and KB are
 * powers of 1024 (an MI300X of 192 GiB has 196,592 "MB"). GT/s becomes the PCIe generation.
 */
interface Conversion {
  /** The catalogue's unit. */
  readonly base: string;
  readonly multiply: number;
  readonly divide: number;
}

const of = (base: string, multiply = 1, divide = 1): Conversion => ({ base, multiply, divide });

const CONVERSIONS: ReadonlyMap<string, Conversion> = new Map([
  ['', of('1')],
  ['lanes', of('')],
  ['GT/s', of('')],
  ['0.1GT/s', of('', 1, 10)],
  ['C', of('Cel')],
  ['°C', of('Cel')],
  ['mC', of('Cel', 1, 1000)],
  ['W', of('W')],
  ['mW', of('W', 1, 1000)],
  ['uW', of('W', 1, 1e6)],
  ['kW', of('W', 1000)],
  ['J', of('J')],
  ['mJ', of('J', 1, 1000)],
  ['uJ', of('J', 1, 1e6)],
  ['kJ', of('J', 1000)],
  // "Energy (15.259uJ (2^-16) units)" in kgd_pp_interface.h
  ['J/65536', of('J', 1, 65_536)],
  ['V', of('V')],
  ['mV', of('V', 1, 1000)],
  ['Hz', of('Hz')],
  ['MHz', of('Hz', 1e6)],
  ['Mhz', of('Hz', 1e6)],
  ['GHz', of('Hz', 1e9)],
  ['%', of('1', 1, 100)],
  ['/255', of('1', 1, 255)],
  ['B', of('By')],
  ['KB', of('By', 1024)],
  ['MB', of('By', 1024 ** 2)],
  ['GB', of('By', 1024 ** 3)],
]);

/** By transfer rate in tenths of a GT/s; PCIe 1 to 6. */
const PCIE_GENERATIONS: ReadonlyMap<number, number> = new Map([
  [25, 1],
  [50, 2],
  [80, 3],
  [160, 4],
  [320, 5],
  [640, 6],
]);

/** The most lanes of a slot. The kernel reads 63 where the device does not answer. */
const MAX_LANES = 32;

/** uint16, uint32 and uint64 with all bits set: what AMD's firmware and libraries say where they do not know. */
const WIDE_UNKNOWN = new Set([0xffffffff, 2 ** 64]);
const NARROW_UNKNOWN = 0xffff;

/** What a number means: a value in the base unit, nothing ('blank'), or something that the unit cannot be. */
export type Converted = number | 'blank' | 'malformed';

/**
 * A number of a source, `unit` as it stands there, for a metric of the catalogue's unit `base`. 65535 is a blank
 * where it is no count: no clock, temperature, power, voltage or share of AMD's fits it, and counts do.
 */
export function toBase(value: number, unit: string, base: string): Converted {
  const conversion = CONVERSIONS.get(unit);
  if (!conversion || !fits(conversion.base, base) || Number.isNaN(value)) return 'malformed';
  if (WIDE_UNKNOWN.has(value)) return 'blank';
  const isCount = unit === '' || conversion.base === 'By' || conversion.base === 'J' || unit === 'mC';
  if (value === NARROW_UNKNOWN && !isCount) return 'blank';
  const converted = (value * conversion.multiply) / conversion.divide;
  if (unit === 'lanes') return value <= MAX_LANES ? value : 'blank';
  if (unit.endsWith('GT/s')) return PCIE_GENERATIONS.get(Math.round(converted * 10)) ?? 'blank';
  return converted;
}

/** The catalogue gives enums and masks no unit. */
function fits(converted: string, base: string): boolean {
  return converted === base || (converted === '1' && base === '');
}
