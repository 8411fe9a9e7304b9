/**
 * Functions that are not fields: `name(device, ...args, pointer, ...)`. Signatures and struct layouts: NVIDIA's public
 * nvml.h (CUDA 12.9 and 13.0; go-nvml carries it). A struct with a version has `size | version << 24` in its first
 * 32 bits.
 */
export interface NvmlCall {
  /** The first that the library has. */
  readonly symbols: readonly string[];
  /** None, one or three; none with two pointers. */
  readonly args: readonly [] | readonly [number] | readonly [number, number, number];
  /** Pointers to 64 bits each; where there is one, it may be to a struct. */
  readonly pointers: 1 | 2;
  readonly version?: number;
}

const call = (symbols: string | readonly string[], args: NvmlCall['args'] = []): NvmlCall => ({
  symbols: typeof symbols === 'string' ? [symbols] : symbols,
  args,
  pointers: 1,
});
const two = (symbol: string): NvmlCall => ({ symbols: [symbol], args: [], pointers: 2 });
const versioned = (symbol: string, version: number): NvmlCall => ({ ...call(symbol), version });

const CLOCK = { sm: 1, memory: 2, video: 3 };
const THRESHOLD = { shutdown: 0, slowdown: 1, memoryMax: 2, gpuMax: 3 };
const ERRORS = { corrected: 0, uncorrected: 1 };
const SCOPE = { volatile: 0, aggregate: 1 };
const SRAM = 7;

/** nvmlMemory_v2_t: u32 version, u64 total, reserved, free, used at 8, 16, 24, 32. */
const MEMORY_V2 = 40 | (2 << 24);
/** nvmlMarginTemperature_v1_t: u32 version, i32 margin. */
const MARGIN_V1 = 8 | (1 << 24);
/** nvmlGpuFabricInfo_v2_t: u32 version, 16 bytes cluster, u32 status, u32 clique, u8 state at 28, u32 health at 32. */
const FABRIC_V2 = 36 | (2 << 24);
/** nvmlEccSramErrorStatus_v1_t: u32 version, eleven u64 counts from 8, u32 threshold exceeded at 96. */
const SRAM_V1 = 104 | (1 << 24);

export const calls = {
  temperature: call('nvmlDeviceGetTemperature', [0]),
  margin: versioned('nvmlDeviceGetMarginTemperature', MARGIN_V1),
  fan: call('nvmlDeviceGetFanSpeed'),
  power: call('nvmlDeviceGetPowerUsage'),
  smClock: call('nvmlDeviceGetClockInfo', [CLOCK.sm]),
  memoryClock: call('nvmlDeviceGetClockInfo', [CLOCK.memory]),
  videoClock: call('nvmlDeviceGetClockInfo', [CLOCK.video]),
  clockEvents: call(['nvmlDeviceGetCurrentClocksEventReasons', 'nvmlDeviceGetCurrentClocksThrottleReasons']),
  pstate: call('nvmlDeviceGetPerformanceState'),
  /** nvmlUtilization_t: u32 gpu, u32 memory. */
  utilization: call('nvmlDeviceGetUtilizationRates'),
  encoder: two('nvmlDeviceGetEncoderUtilization'),
  decoder: two('nvmlDeviceGetDecoderUtilization'),
  memory: versioned('nvmlDeviceGetMemoryInfo_v2', MEMORY_V2),
  /** nvmlMemory_t: u64 total, free, used; used includes what is reserved. */
  oldMemory: call('nvmlDeviceGetMemoryInfo'),
  pcieGeneration: call('nvmlDeviceGetCurrPcieLinkGeneration'),
  pcieWidth: call('nvmlDeviceGetCurrPcieLinkWidth'),
  pcieGenerationMax: call('nvmlDeviceGetMaxPcieLinkGeneration'),
  pcieWidthMax: call('nvmlDeviceGetMaxPcieLinkWidth'),
  maxSmClock: call('nvmlDeviceGetMaxClockInfo', [CLOCK.sm]),
  maxMemoryClock: call('nvmlDeviceGetMaxClockInfo', [CLOCK.memory]),
  slowdown: call('nvmlDeviceGetTemperatureThreshold', [THRESHOLD.slowdown]),
  shutdown: call('nvmlDeviceGetTemperatureThreshold', [THRESHOLD.shutdown]),
  gpuMax: call('nvmlDeviceGetTemperatureThreshold', [THRESHOLD.gpuMax]),
  memoryMax: call('nvmlDeviceGetTemperatureThreshold', [THRESHOLD.memoryMax]),
  requestedLimit: call('nvmlDeviceGetPowerManagementLimit'),
  enforcedLimit: call('nvmlDeviceGetEnforcedPowerLimit'),
  defaultLimit: call('nvmlDeviceGetPowerManagementDefaultLimit'),
  /** u32 least, u32 most. */
  limitRange: two('nvmlDeviceGetPowerManagementLimitConstraints'),
  persistence: call('nvmlDeviceGetPersistenceMode'),
  /** u32 current, u32 pending. */
  mig: two('nvmlDeviceGetMigMode'),
  fabric: versioned('nvmlDeviceGetGpuFabricInfoV', FABRIC_V2),
  /** nvmlRowRemapperHistogramValues_t: five u32: max, high, partial, low, none. */
  remapHistogram: call('nvmlDeviceGetRowRemapperHistogram'),
  sramStatus: versioned('nvmlDeviceGetSramEccErrorStatus', SRAM_V1),
  sramCorrectedVolatile: call('nvmlDeviceGetMemoryErrorCounter', [ERRORS.corrected, SCOPE.volatile, SRAM]),
  sramUncorrectedVolatile: call('nvmlDeviceGetMemoryErrorCounter', [
    ERRORS.uncorrected,
    SCOPE.volatile,
    SRAM,
  ]),
  sramCorrectedAggregate: call('nvmlDeviceGetMemoryErrorCounter', [ERRORS.corrected, SCOPE.aggregate, SRAM]),
  sramUncorrectedAggregate: call('nvmlDeviceGetMemoryErrorCounter', [
    ERRORS.uncorrected,
    SCOPE.aggregate,
    SRAM,
  ]),
} as const satisfies Record<string, NvmlCall>;

export type CallName = keyof typeof calls;
