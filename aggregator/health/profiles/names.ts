/** Everything about a GPU that a profile can weigh. */
export const SIGNAL_NAMES = [
  // thermal
  'core_margin',
  'memory_margin',
  'thermal_slowdown',
  'hardware_slowdown',
  'thermal_resistance',
  'temperature_peers',
  // power
  'power_ratio',
  'power_brake',
  'perf_per_watt',
  'idle_power',
  // memory
  'uncorrectable_ecc',
  'corrected_ecc',
  'row_remaps',
  'remap_banks',
  'remap_pending',
  'remap_failed',
  'sram_threshold',
  'memory_unrepairable',
  'retired_pages',
  'retired_pages_pending',
  'bad_pages',
  // performance
  'sibling_clock',
  'pcie_width',
  'pcie_generation',
  'pcie_replays',
  'link_errors',
  'link_bit_errors',
  'link_down',
  'step_time',
  // reliability
  'xid',
  'sxid',
  'ras',
  'failed_diagnostic',
  'gpu_lost',
  'recovery_action',
  'recent_repair',
  'repairs',
  'failure_probability',
  'agent_gaps',
] as const;

export type SignalName = (typeof SIGNAL_NAMES)[number];

/** Limits of a model, used only where the device does not report its own. */
export const LIMIT_NAMES = [
  'power_watts',
  'max_operating_celsius',
  'slowdown_celsius',
  /** AMD's hotspot (junction) sensor has limits of its own. */
  'hotspot_slowdown_celsius',
  'memory_max_celsius',
  'pcie_generation',
  'pcie_width',
  'link_count',
  'sm_max_megahertz',
] as const;

export type LimitName = (typeof LIMIT_NAMES)[number];
