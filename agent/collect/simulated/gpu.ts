import { type Conditions, NO_FAULT } from './faults.ts';
import type { Prng } from './prng.ts';
import type { GpuProfile } from './profiles.ts';
import type { Workload } from './workload.ts';

/** Bits of gpu_clock_event_reasons (NVML, nvmlClocksEventReasons). */
const EventReason = {
  Idle: 0x1,
  SwPowerCap: 0x4,
  HwSlowdown: 0x8,
  SwThermal: 0x20,
  HwThermal: 0x40,
  HwPowerBrake: 0x80,
} as const;

/** Seconds in which power, core and memory temperature go 63 % of their way: regulator, heat sink, HBM stack. */
const POWER_SECONDS = 0.8;
const CORE_SECONDS = 25;
const MEMORY_SECONDS = 60;
/** Dynamic power grows with frequency times voltage squared; voltage falls less than frequency does. */
const POWER_EXPONENT = 2.2;
/** Hardware slowdown and power brake halve the clock; software slows it by at most this share before that. */
const HARDWARE_CLOCK_SHARE = 0.5;
const SOFTWARE_CLOCK_SHARE = 0.75;
/** Deviation of the power that the regulator settles at, and of one instant's reading around it. */
const REGULATOR_NOISE = 0.004;
const INSTANT_NOISE = 0.008;
/** Of the load's wander, what is left of it after a second, and the deviation of what comes to it in one. */
const WANDER_KEPT = 0.9;
const WANDER_NOISE = 0.004;
/** °C of the memory above the inlet without load, and for each share of the power limit. */
const MEMORY_IDLE_CELSIUS = 7;
const MEMORY_LOAD_CELSIUS = 36;
/** One corrected error a fortnight: what a healthy HBM stack shows. */
const SECONDS_BETWEEN_CORRECTED = 14 * 86_400;
/** Rows that remapping can replace on one board (NVIDIA, "GPU Memory Error Management": 512). */
const MAX_REMAPPED_ROWS = 512;
/** The core reads no higher: the package would be off by then. */
const HOTTEST_CELSIUS = 110;
/** Byte counters wrap here, within the catalogue's range: after ten years at full speed. */
const BYTES_WRAP = 2 ** 62;
/** Links whose own counters are read; the others carry the same. */
const READ_LINKS = 2;
/** Of a link that trained in full. */
const PCIE_LANES = 16;

/** How far first-order responses get in one step; shared by all GPUs of a node. */
export interface Response {
  readonly seconds: number;
  readonly power: number;
  /** Share of the initial deviation in the mean over the step: makes energy the exact integral of power. */
  readonly powerMean: number;
  readonly core: number;
  readonly memory: number;
  /** Of the load's wander: what is left of it, and the deviation of what comes to it. */
  readonly wanderKept: number;
  readonly wanderNoise: number;
}

export function responseOf(seconds: number): Response {
  const power = 1 - Math.exp(-seconds / POWER_SECONDS);
  const wanderKept = WANDER_KEPT ** seconds;
  return {
    seconds,
    power,
    powerMean: (POWER_SECONDS / seconds) * power,
    core: 1 - Math.exp(-seconds / CORE_SECONDS),
    memory: 1 - Math.exp(-seconds / MEMORY_SECONDS),
    wanderKept,
    // The wander's deviation over a long time is the same in steps of any length.
    wanderNoise: WANDER_NOISE * Math.sqrt((1 - wanderKept ** 2) / (1 - WANDER_KEPT ** 2)),
  };
}

/**
 * One board: load sets the clock and the power that it asks for; the power limit and the temperature hold the
 * clock down; power heats core and memory; energy integrates power. Stepped by its node, at most a second at a
 * time unless a pause was long or the machine asks for coarser steps.
 */
export class SimulatedGpu {
  readonly profile: GpuProfile;
  conditions: Conditions = NO_FAULT;

  // What it draws and how warm it is now.
  watts: number;
  /** Mean over the last step, as the driver's one-second average. */
  meanWatts: number;
  /** One noisy reading. */
  instantWatts: number;
  coreCelsius: number;
  memoryCelsius: number;
  smMegahertz: number;
  reasons: number = EventReason.Idle;

  // Since the driver was loaded.
  joules: number;
  swPowerCapSeconds = 0;
  hwThermalSeconds = 0;
  swThermalSeconds = 0;
  hwPowerBrakeSeconds = 0;
  corrected = 0;
  uncorrected = 0;
  crcErrors = 0;
  /** Times that the first link came back. */
  linkRecoveries = 0;
  pcieReplays: number;
  readonly linkTransmitted = new Float64Array(READ_LINKS);
  readonly linkReceived = new Float64Array(READ_LINKS);
  lastXid = 0;

  // For life.
  correctedBefore: number;
  uncorrectedBefore = 0;

  /**
   * Share of the boost clock that heat, power brake or a fault leave it, 0 where it does not answer: how fast it gets
   * on with the job. The power limit is left out: a job is as fast as its boards are under it.
   */
  pace = 1;

  // Shares, 0 to 1, of the last step.
  busy = 0;
  compute = 0;
  tensor = 0;
  dram = 0;
  usedMebibytes = 0;
  /** Bytes a second of all NVLinks in one direction, and of PCIe. */
  nvlinkTransmit = 0;
  nvlinkReceive = 0;
  pcieTransmit = 0;
  pcieReceive = 0;

  readonly #random: Prng;
  /** What makes this board unlike its neighbours: silicon, place in the airflow, share of the model. */
  readonly #loadSpread: number;
  readonly #idleSpread: number;
  readonly #coolingSpread: number;
  readonly #preheatedCelsius: number;
  readonly #memorySpread: number;
  /** Slow wander of the load, a first-order autoregression. */
  #wander = 0;
  #linkWasDown = false;
  #untilCorrected: number;

  /** `place`: 0 for the board at the air inlet to 1 for the last one. */
  constructor(profile: GpuProfile, place: number, inletCelsius: number, random: Prng) {
    this.profile = profile;
    this.#random = random;
    this.#loadSpread = random.between(0.97, 1.01);
    this.#idleSpread = random.between(0.95, 1.08);
    this.#coolingSpread = random.between(0.95, 1.07);
    this.#preheatedCelsius = 3 * place + random.between(-1, 1);
    this.#memorySpread = random.between(0.97, 1);
    this.#untilCorrected = random.exponential(SECONDS_BETWEEN_CORRECTED);
    this.watts = profile.idleWatts * this.#idleSpread;
    this.meanWatts = this.watts;
    this.instantWatts = this.watts;
    this.coreCelsius = this.#settledCore(inletCelsius);
    this.memoryCelsius = this.#settledMemory(inletCelsius);
    this.smMegahertz = profile.idleMegahertz;
    // It did not begin its life with this process.
    this.joules = random.between(1e7, 5e8);
    this.correctedBefore = random.below(40);
    this.pcieReplays = random.below(3);
    for (let link = 0; link < READ_LINKS; link++) {
      this.linkTransmitted[link] = random.between(1e12, 1e14);
      this.linkReceived[link] = random.between(1e12, 1e14);
    }
  }

  get remappedRows(): number {
    return Math.min(MAX_REMAPPED_ROWS, this.uncorrectedBefore + counted(this.uncorrected));
  }

  get pcieLanes(): number {
    return PCIE_LANES - this.conditions.pcieLanesLost;
  }

  get usableMebibytes(): number {
    return this.profile.memoryMebibytes - this.profile.reservedMebibytes;
  }

  /** `slowest`: the lowest pace of the node's boards. They compute together, and wait for it. */
  step(load: Workload, inletCelsius: number, slowest: number, response: Response): void {
    this.#takeLoad(load, slowest, response);
    const wantedWatts = this.#setClock();
    this.#draw(wantedWatts, response);
    this.coreCelsius += (this.#settledCore(inletCelsius) - this.coreCelsius) * response.core;
    this.memoryCelsius += (this.#settledMemory(inletCelsius) - this.memoryCelsius) * response.memory;
    this.#countReasons(response.seconds);
    this.#countErrors(response.seconds);
    this.#countLinks(response.seconds);
    if (this.conditions.unloaded) this.#beginCounting();
  }

  #takeLoad(load: Workload, slowest: number, { wanderKept, wanderNoise }: Response): void {
    const { conditions, profile } = this;
    this.#wander = wanderKept * this.#wander + wanderNoise * this.#random.normal();
    const working = conditions.lost ? 0 : 1;
    const own = this.#loadSpread + this.#wander;
    // One that waits for its peers spins in the collective: busy, without work for its SMs.
    const computing = this.pace > 0 ? Math.min(1, slowest / this.pace) : 0;
    this.busy = working * share(load.busy * (1 + 0.1 * this.#wander));
    this.compute = working * share(load.compute * own) * computing;
    this.tensor = working * share(load.tensor * own) * computing;
    // Bytes follow the work that is done, cycles follow the clock.
    this.dram = working * share(load.dram * own) * slowest;
    this.usedMebibytes = Math.floor(
      this.usableMebibytes * (conditions.memoryFull ? 0.995 : working * load.memory * this.#memorySpread),
    );
    const linksUp = conditions.linkDown ? (profile.links - 1) / profile.links : 1;
    const network = working * load.network * slowest * linksUp * profile.links * profile.linkBytesPerSecond;
    this.nvlinkTransmit = network * share(own);
    // What one sends another receives: the same traffic, seen through other counters.
    this.nvlinkReceive = network * share(this.#loadSpread - this.#wander);
    const pcie = (working * own * profile.pcieBytesPerSecond * this.pcieLanes) / PCIE_LANES;
    this.pcieTransmit = load.toHost * pcie;
    this.pcieReceive = load.fromHost * pcie;
  }

  /** The clock that limits and temperature allow; gives the watts that the board settles at with it. */
  #setClock(): number {
    const { profile, conditions, coreCelsius } = this;
    const idleWatts = profile.idleWatts * this.#idleSpread;
    let reasons = 0;
    let clock = 1 - conditions.slowness;
    if (coreCelsius >= profile.slowdownCelsius) {
      reasons |= EventReason.HwThermal | EventReason.HwSlowdown;
      clock = Math.min(clock, HARDWARE_CLOCK_SHARE);
    } else if (coreCelsius > profile.maxOperatingCelsius) {
      reasons |= EventReason.SwThermal;
      clock = Math.min(clock, SOFTWARE_CLOCK_SHARE);
    }
    if (conditions.powerBrake) {
      reasons |= EventReason.HwPowerBrake | EventReason.HwSlowdown;
      clock = Math.min(clock, HARDWARE_CLOCK_SHARE);
    }
    this.pace = conditions.lost ? 0 : clock;
    if (this.busy === 0) {
      reasons |= EventReason.Idle;
      clock = Math.min(clock, profile.idleMegahertz / profile.boostMegahertz);
    }
    let dynamicWatts = profile.dynamicWatts * this.compute * clock ** POWER_EXPONENT;
    const roomWatts = profile.limitWatts - idleWatts;
    if (dynamicWatts > roomWatts) {
      reasons |= EventReason.SwPowerCap;
      clock *= (roomWatts / dynamicWatts) ** (1 / POWER_EXPONENT);
      dynamicWatts = roomWatts;
    }
    this.reasons = reasons;
    this.smMegahertz =
      Math.floor((profile.boostMegahertz * clock) / profile.clockStepMegahertz) * profile.clockStepMegahertz;
    return (idleWatts + dynamicWatts) * (1 + REGULATOR_NOISE * this.#random.normal());
  }

  #draw(wantedWatts: number, { seconds, power, powerMean }: Response): void {
    this.meanWatts = wantedWatts + (this.watts - wantedWatts) * powerMean;
    this.watts += (wantedWatts - this.watts) * power;
    this.instantWatts = this.watts * (1 + INSTANT_NOISE * this.#random.normal());
    this.joules += this.meanWatts * seconds;
  }

  #settledCore(inletCelsius: number): number {
    const risen = this.profile.celsiusPerWatt * this.#coolingSpread * this.meanWatts;
    const settled = inletCelsius + this.#preheatedCelsius + risen + this.conditions.addedCelsius;
    return Math.min(HOTTEST_CELSIUS, settled);
  }

  #settledMemory(inletCelsius: number): number {
    const { limitWatts } = this.profile;
    const risen = MEMORY_IDLE_CELSIUS + MEMORY_LOAD_CELSIUS * (this.meanWatts / limitWatts) + 5 * this.dram;
    return (
      inletCelsius + this.#preheatedCelsius + risen * this.#coolingSpread + 0.8 * this.conditions.addedCelsius
    );
  }

  #countReasons(seconds: number): void {
    const { reasons } = this;
    if (reasons & EventReason.SwPowerCap) this.swPowerCapSeconds += seconds;
    if (reasons & EventReason.HwThermal) this.hwThermalSeconds += seconds;
    if (reasons & EventReason.SwThermal) this.swThermalSeconds += seconds;
    if (reasons & EventReason.HwPowerBrake) this.hwPowerBrakeSeconds += seconds;
  }

  /** Faults add fractions of errors, chance whole ones (see `counted`). */
  #countErrors(seconds: number): void {
    const { conditions } = this;
    this.#untilCorrected -= seconds;
    while (this.#untilCorrected <= 0) {
      this.corrected++;
      this.#untilCorrected += this.#random.exponential(SECONDS_BETWEEN_CORRECTED);
    }
    this.corrected += conditions.correctedPerSecond * seconds;
    this.uncorrected += conditions.uncorrectedPerSecond * seconds;
    this.crcErrors += conditions.crcErrorsPerSecond * seconds;
  }

  /** A link that is down is the first one; the traffic goes over the others. */
  #countLinks(seconds: number): void {
    const down = this.conditions.linkDown ? 1 : 0;
    if (this.#linkWasDown && !down) this.linkRecoveries++;
    this.#linkWasDown = down === 1;
    const up = this.profile.links - down;
    for (let link = down; link < READ_LINKS; link++) {
      this.linkTransmitted[link] =
        (this.linkTransmitted[link]! + (this.nvlinkTransmit / up) * seconds) % BYTES_WRAP;
      this.linkReceived[link] = (this.linkReceived[link]! + (this.nvlinkReceive / up) * seconds) % BYTES_WRAP;
    }
  }

  /** The driver is loaded anew: what it counted is gone, what the board keeps in its own memory is not. */
  #beginCounting(): void {
    this.correctedBefore += counted(this.corrected);
    this.uncorrectedBefore += counted(this.uncorrected);
    this.joules = 0;
    this.swPowerCapSeconds = 0;
    this.hwThermalSeconds = 0;
    this.swThermalSeconds = 0;
    this.hwPowerBrakeSeconds = 0;
    this.corrected = 0;
    this.uncorrected = 0;
    this.crcErrors = 0;
    this.linkRecoveries = 0;
    this.pcieReplays = 0;
    this.lastXid = 0;
    this.linkTransmitted.fill(0);
    this.linkReceived.fill(0);
  }
}

/**
 * Errors as a counter shows them: a fault adds fractions, and the first error shows at once. The margin takes away
 * what adding fractions leaves behind (30 times 0.1 is a little over 3).
 */
export function counted(errors: number): number {
  return Math.ceil(errors - 1e-6);
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}
