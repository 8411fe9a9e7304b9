export type Vendor = 'nvidia' | 'amd';

/** What a board is: the figures that the simulation needs of it. One entry makes a new model. */
export interface GpuProfile {
  readonly vendor: Vendor;
  /** As the driver names it; the value of label `model`. */
  readonly model: string;
  readonly vbios: string;
  /** Watts without work, with the driver loaded. */
  readonly idleWatts: number;
  /** Default and highest power limit, W. */
  readonly limitWatts: number;
  /** W on top of idle at full work and boost clock if nothing capped it: more than the limit allows. */
  readonly dynamicWatts: number;
  /** SM clock in MHz: without work, and boost. */
  readonly idleMegahertz: number;
  readonly boostMegahertz: number;
  readonly memoryMegahertz: number;
  /** The SM clock moves in steps of so many MHz. */
  readonly clockStepMegahertz: number;
  /** °C at which software begins to slow the clock, hardware halves it, the board turns itself off. */
  readonly maxOperatingCelsius: number;
  readonly slowdownCelsius: number;
  readonly shutdownCelsius: number;
  /** °C of the core above the inlet for each W, when settled. */
  readonly celsiusPerWatt: number;
  readonly memoryMebibytes: number;
  readonly reservedMebibytes: number;
  /** NVLinks or xGMI links, and bytes a second of one link in one direction. */
  readonly links: number;
  readonly linkBytesPerSecond: number;
  readonly pcieGeneration: number;
  /** Usable PCIe bytes a second in one direction. */
  readonly pcieBytesPerSecond: number;
}

/**
 * SXM and OAM boards, passively cooled. Clocks, limits and memory as `nvidia-smi -q` and `--query-gpu` of driver 590.48.01
 * print them for H100 and H200, and of the 5xx drivers for A100-SXM4-80GB (its 400 W limit from the data sheet).
 * H100 reports margins to 87 °C (T.Limit: slowdown -2, shutdown -8); in degrees they are 89 and 95.
 * `celsiusPerWatt`: an H100 at 632 W was seen at 59 °C, about 0.055 above a 24 °C inlet; air-cooled chassis with eight
 * boards run warmer. NVLink 3 and 4: 25 GB/s for each link and direction, 12 and 18 links.
 *
 * MI300X: 750 W, 2100 MHz, 192 GB of HBM3 at 5.2 Gbit/s a pin (1300 MHz), seven links to its peers of 64 GB/s in each
 * direction, PCIe 5 (AMD, "Instinct MI300X accelerator data sheet"); 132 MHz without work and 196,592 MiB as amd-smi
 * prints them; hotspot limits of 100 and 110 °C as `amd-smi static` prints them for the MI300 series. Its driver gives
 * no lower limit: software slows a little before the slowdown. What it draws and holds without work (some 140 W and 285
 * MiB) and how warm it becomes are of the size that operators show, and no vendor's figures.
 */
export const GPU_PROFILES = {
  A100: {
    vendor: 'nvidia',
    model: 'NVIDIA A100-SXM4-80GB',
    vbios: '92.00.45.00.03',
    idleWatts: 55,
    limitWatts: 400,
    dynamicWatts: 390,
    idleMegahertz: 210,
    boostMegahertz: 1410,
    memoryMegahertz: 1593,
    clockStepMegahertz: 15,
    maxOperatingCelsius: 85,
    slowdownCelsius: 89,
    shutdownCelsius: 92,
    celsiusPerWatt: 0.1,
    memoryMebibytes: 81_920,
    reservedMebibytes: 869,
    links: 12,
    linkBytesPerSecond: 25e9,
    pcieGeneration: 4,
    pcieBytesPerSecond: 25e9,
  },
  H100: {
    vendor: 'nvidia',
    model: 'NVIDIA H100 80GB HBM3',
    vbios: '96.00.A5.00.01',
    idleWatts: 70,
    limitWatts: 700,
    dynamicWatts: 720,
    idleMegahertz: 345,
    boostMegahertz: 1980,
    memoryMegahertz: 2619,
    clockStepMegahertz: 15,
    maxOperatingCelsius: 87,
    slowdownCelsius: 89,
    shutdownCelsius: 95,
    celsiusPerWatt: 0.06,
    memoryMebibytes: 81_559,
    reservedMebibytes: 479,
    links: 18,
    linkBytesPerSecond: 25e9,
    pcieGeneration: 5,
    pcieBytesPerSecond: 50e9,
  },
  H200: {
    vendor: 'nvidia',
    model: 'NVIDIA H200',
    vbios: '96.00.BC.00.01',
    idleWatts: 76,
    limitWatts: 700,
    dynamicWatts: 710,
    idleMegahertz: 345,
    boostMegahertz: 1980,
    memoryMegahertz: 3201,
    clockStepMegahertz: 15,
    maxOperatingCelsius: 87,
    slowdownCelsius: 89,
    shutdownCelsius: 95,
    celsiusPerWatt: 0.06,
    memoryMebibytes: 143_771,
    reservedMebibytes: 607,
    links: 18,
    linkBytesPerSecond: 25e9,
    pcieGeneration: 5,
    pcieBytesPerSecond: 50e9,
  },
  MI300X: {
    vendor: 'amd',
    model: 'AMD Instinct MI300X',
    vbios: '113-M3000100-102',
    idleWatts: 138,
    limitWatts: 750,
    dynamicWatts: 720,
    idleMegahertz: 132,
    boostMegahertz: 2100,
    memoryMegahertz: 1300,
    clockStepMegahertz: 1,
    maxOperatingCelsius: 97,
    slowdownCelsius: 100,
    shutdownCelsius: 110,
    celsiusPerWatt: 0.065,
    memoryMebibytes: 196_592,
    reservedMebibytes: 285,
    links: 7,
    linkBytesPerSecond: 64e9,
    pcieGeneration: 5,
    pcieBytesPerSecond: 50e9,
  },
} as const satisfies Record<string, GpuProfile>;

export type GpuModel = keyof typeof GPU_PROFILES;
