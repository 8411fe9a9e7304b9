/*
 * A libnvidia-ml.so.1 for tests: the functions that the agent calls, with the signatures of NVIDIA's public nvml.h, over
 * invented GPUs. It does what its control file says:
 *
 *   gpus=8                      how many there are
 *   links=18                    NVLinks of each
 *   driver=590.48.01
 *   generation=2                another number: the driver was reloaded, every handle is void, counters start at 0
 *   counter=1000                what counters have counted
 *   init=9                      nvmlInit answers this code
 *   lost=1,3                    these GPUs fell off the bus: every call about them answers GPU_IS_LOST
 *   closed=3                    the handles of these cannot be had
 *   unsupported=82,nvmlDeviceGetFanSpeed      fields and functions that are not supported; denied=...: no permission
 *   value.nvmlDeviceGetTemperature.2=91       of GPU 2, by function or field
 *   hang=60                     the next read takes so many seconds, or until the file says hang=0
 *   stubborn=1                  meanwhile SIGTERM does nothing, as in uninterruptible sleep; it is obeyed afterwards
 *   crash=1                     the next read ends in SIGSEGV
 *
 * The file is $FAKE_NVML_CONTROL, else `control` beside the library. It is read again at nvmlInit and at
 * nvmlDeviceGetCount, with which each read begins. What was called goes to `log` beside the library: one line for
 * each open (`init`), close (`shutdown`) and SIGTERM (`term`).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SUCCESS 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NO_PERMISSION 4
#define INSUFFICIENT_SIZE 7
#define GPU_IS_LOST 15
#define ARGUMENT_VERSION_MISMATCH 25

#define MAX_GPUS 64
#define LIST 1024
#define MAX_VALUES 64

typedef unsigned int u32;
typedef unsigned long long u64;

typedef struct { u32 index; } Device;
typedef struct { char name[64]; long gpu; double value; } Value;

static struct {
  int gpus, links, init, hang, stubborn, crash;
  long generation;
  double counter;
  char driver[64], lost[LIST], closed[LIST], unsupported[LIST], denied[LIST];
  Value values[MAX_VALUES];
  int valueCount;
} control;

static Device devices[MAX_GPUS];
static int initialised;
static long openGeneration;
static struct timespec readAt;
static char controlPath[4096];
static int logFd = -1;
static volatile sig_atomic_t terms;

static void say(const char *line) {
  if (logFd >= 0 && write(logFd, line, strlen(line)) < 0) { /* nobody to tell */ }
}

static void onTerm(int signal) {
  (void)signal;
  terms++;
  say("term\n");
}

static void findPaths(void) {
  if (controlPath[0]) return;
  Dl_info info;
  char folder[4000] = ".";
  if (dladdr((void *)findPaths, &info) && info.dli_fname) {
    snprintf(folder, sizeof folder, "%s", info.dli_fname);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
  }
  const char *given = getenv("FAKE_NVML_CONTROL");
  if (given && given[0]) snprintf(controlPath, sizeof controlPath, "%s", given);
  else snprintf(controlPath, sizeof controlPath, "%s/control", folder);
  char log[4096];
  snprintf(log, sizeof log, "%s/log", folder);
  logFd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void takeLine(char *line) {
  char *equals = strchr(line, '=');
  if (!equals) return;
  *equals = 0;
  const char *value = equals + 1;
  if (!strcmp(line, "gpus")) control.gpus = atoi(value);
  else if (!strcmp(line, "links")) control.links = atoi(value);
  else if (!strcmp(line, "init")) control.init = atoi(value);
  else if (!strcmp(line, "hang")) control.hang = atoi(value);
  else if (!strcmp(line, "stubborn")) control.stubborn = atoi(value);
  else if (!strcmp(line, "crash")) control.crash = atoi(value);
  else if (!strcmp(line, "generation")) control.generation = atol(value);
  else if (!strcmp(line, "counter")) control.counter = atof(value);
  else if (!strcmp(line, "driver")) snprintf(control.driver, sizeof control.driver, "%s", value);
  else if (!strcmp(line, "lost")) snprintf(control.lost, LIST, ",%s,", value);
  else if (!strcmp(line, "closed")) snprintf(control.closed, LIST, ",%s,", value);
  else if (!strcmp(line, "unsupported")) snprintf(control.unsupported, LIST, ",%s,", value);
  else if (!strcmp(line, "denied")) snprintf(control.denied, LIST, ",%s,", value);
  else if (!strncmp(line, "value.", 6) && control.valueCount < MAX_VALUES) {
    Value *one = &control.values[control.valueCount++];
    char *dot = strrchr(line + 6, '.');
    if (dot) *dot = 0;
    snprintf(one->name, sizeof one->name, "%.63s", line + 6);
    one->gpu = dot ? atol(dot + 1) : 0;
    one->value = atof(value);
  }
}

static void readControl(void) {
  findPaths();
  struct stat status;
  if (stat(controlPath, &status) != 0) memset(&status, 0, sizeof status);
  if (status.st_mtim.tv_sec == readAt.tv_sec && status.st_mtim.tv_nsec == readAt.tv_nsec && readAt.tv_sec) return;
  readAt = status.st_mtim;
  memset(&control, 0, sizeof control);
  control.gpus = 1;
  control.counter = 1000;
  snprintf(control.driver, sizeof control.driver, "590.48.01");
  FILE *file = fopen(controlPath, "r");
  if (!file) return;
  char line[LIST];
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\r\n")] = 0;
    takeLine(line);
  }
  fclose(file);
  if (control.gpus > MAX_GPUS) control.gpus = MAX_GPUS;
}

static int listed(const char *list, const char *name) {
  char wanted[128];
  snprintf(wanted, sizeof wanted, ",%s,", name);
  return list[0] && strstr(list, wanted) != NULL;
}

static int listedIndex(const char *list, u32 index) {
  char name[16];
  snprintf(name, sizeof name, "%u", index);
  return listed(list, name);
}

/* What every function about a device begins with. */
static int check(Device *device, const char *name) {
  if (!initialised || openGeneration != control.generation) return UNINITIALIZED;
  if (device < devices || device >= devices + control.gpus) return INVALID_ARGUMENT;
  if (listedIndex(control.lost, device->index)) return GPU_IS_LOST;
  if (listed(control.unsupported, name)) return NOT_SUPPORTED;
  if (listed(control.denied, name)) return NO_PERMISSION;
  return SUCCESS;
}

static double valueOf(Device *device, const char *name, double usual) {
  for (int i = control.valueCount - 1; i >= 0; i--)
    if (control.values[i].gpu == (long)device->index && !strcmp(control.values[i].name, name))
      return control.values[i].value;
  return usual;
}

static void suffer(void) {
  if (control.crash) raise(SIGSEGV);
  if (control.hang <= 0) return;
  if (control.stubborn) signal(SIGTERM, onTerm);
  time_t until = time(NULL) + control.hang;
  while (control.hang > 0 && time(NULL) < until) {
    struct timespec pause = {0, 20 * 1000 * 1000};
    nanosleep(&pause, NULL);
    readControl();
  }
  if (!control.stubborn && terms == 0) return;
  signal(SIGTERM, SIG_DFL);
  if (terms > 0) raise(SIGTERM);
}

int nvmlInit_v2(void) {
  readControl();
  say("init\n");
  if (control.init) return control.init;
  for (u32 i = 0; i < MAX_GPUS; i++) devices[i].index = i;
  openGeneration = control.generation;
  initialised = 1;
  return SUCCESS;
}

int nvmlShutdown(void) {
  say("shutdown\n");
  initialised = 0;
  return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *text, u32 size) {
  if (!initialised) return UNINITIALIZED;
  snprintf(text, size, "%s", control.driver);
  return SUCCESS;
}

int nvmlDeviceGetCount_v2(u32 *count) {
  readControl();
  if (!initialised || openGeneration != control.generation) return UNINITIALIZED;
  suffer();
  *count = (u32)control.gpus;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(u32 index, Device **device) {
  if (!initialised) return UNINITIALIZED;
  if ((int)index >= control.gpus) return INVALID_ARGUMENT;
  if (listedIndex(control.closed, index)) return GPU_IS_LOST;
  *device = &devices[index];
  return SUCCESS;
}

static int text(Device *device, const char *name, char *out, u32 size, const char *format, ...) {
  int code = check(device, name);
  if (code) return code;
  va_list rest;
  va_start(rest, format);
  int length = vsnprintf(out, size, format, rest);
  va_end(rest);
  return length < 0 || (u32)length >= size ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetUUID(Device *d, char *out, u32 size) {
  return text(d, "nvmlDeviceGetUUID", out, size, "GPU-00000000-0000-0000-0000-%012u", d->index);
}
int nvmlDeviceGetSerial(Device *d, char *out, u32 size) {
  return text(d, "nvmlDeviceGetSerial", out, size, "165%07u", d->index);
}
int nvmlDeviceGetName(Device *d, char *out, u32 size) {
  return text(d, "nvmlDeviceGetName", out, size, "NVIDIA Fake 80GB");
}
int nvmlDeviceGetVbiosVersion(Device *d, char *out, u32 size) {
  return text(d, "nvmlDeviceGetVbiosVersion", out, size, "96.00.99.00.%02u", d->index);
}

typedef struct { char legacy[16]; u32 domain, bus, device, id, subsystem; char busId[32]; } PciInfo;

int nvmlDeviceGetPciInfo_v3(Device *d, PciInfo *pci) {
  int code = check(d, "nvmlDeviceGetPciInfo_v3");
  if (code) return code;
  memset(pci, 0, sizeof *pci);
  pci->bus = 0x10 + d->index;
  snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
  return SUCCESS;
}

#define NUMBER(NAME, TYPE, USUAL)                      \
  int NAME(Device *d, TYPE *out) {                     \
    int code = check(d, #NAME);                        \
    if (code == SUCCESS) *out = (TYPE)valueOf(d, #NAME, USUAL); \
    return code;                                       \
  }

NUMBER(nvmlDeviceGetMinorNumber, u32, d->index)
NUMBER(nvmlDeviceGetFanSpeed, u32, 40)
NUMBER(nvmlDeviceGetPowerUsage, u32, 300500 + d->index)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, u64, 4)
NUMBER(nvmlDeviceGetPerformanceState, u32, 0)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, u32, 5)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, u32, 16)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, u32, 5)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, u32, 16)
NUMBER(nvmlDeviceGetPowerManagementLimit, u32, 700000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, u32, 700000)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, u32, 700000)
NUMBER(nvmlDeviceGetPersistenceMode, u32, 1)

static const double THRESHOLDS[] = {95, 90, 95, 87};
static const double CLOCKS[] = {1900, 1980, 2619, 1545};
static const double MAX_CLOCKS[] = {1980, 1980, 2619, 1545};

#define NUMBER_OF(NAME, USUAL)                         \
  int NAME(Device *d, int which, u32 *out) {           \
    int code = check(d, #NAME);                        \
    if (code == SUCCESS) *out = (u32)valueOf(d, #NAME, USUAL); \
    return code;                                       \
  }

NUMBER_OF(nvmlDeviceGetTemperature, which == 0 ? 50 + d->index : 0)
NUMBER_OF(nvmlDeviceGetTemperatureThreshold, THRESHOLDS[which & 3])
NUMBER_OF(nvmlDeviceGetClockInfo, CLOCKS[which & 3])
NUMBER_OF(nvmlDeviceGetMaxClockInfo, MAX_CLOCKS[which & 3])

#define PAIR(NAME, A, B)                               \
  int NAME(Device *d, u32 *a, u32 *b) {                \
    int code = check(d, #NAME);                        \
    if (code == SUCCESS) { *a = (u32)valueOf(d, #NAME, A); *b = B; } \
    return code;                                       \
  }

PAIR(nvmlDeviceGetEncoderUtilization, 3, 167000)
PAIR(nvmlDeviceGetDecoderUtilization, 4, 167000)
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, 200000, 700000)
PAIR(nvmlDeviceGetMigMode, 0, 0)

int nvmlDeviceGetUtilizationRates(Device *d, u32 *out) {
  int code = check(d, "nvmlDeviceGetUtilizationRates");
  if (code) return code;
  out[0] = (u32)valueOf(d, "nvmlDeviceGetUtilizationRates", 93);
  out[1] = 41;
  return SUCCESS;
}

typedef struct { u32 version; u64 total, reserved, free, used; } Memory2;
typedef struct { u64 total, free, used; } Memory1;
#define GIB (1ull << 30)

int nvmlDeviceGetMemoryInfo_v2(Device *d, Memory2 *out) {
  int code = check(d, "nvmlDeviceGetMemoryInfo_v2");
  if (code) return code;
  if (out->version != (sizeof *out | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
  out->total = 80 * GIB;
  out->reserved = GIB / 2;
  out->used = (u64)valueOf(d, "nvmlDeviceGetMemoryInfo_v2", (double)(60 * GIB));
  out->free = out->total - out->reserved - out->used;
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(Device *d, Memory1 *out) {
  int code = check(d, "nvmlDeviceGetMemoryInfo");
  if (code) return code;
  *out = (Memory1){80 * GIB, 19 * GIB + GIB / 2, 60 * GIB + GIB / 2};
  return SUCCESS;
}

int nvmlDeviceGetMarginTemperature(Device *d, int *out) {
  int code = check(d, "nvmlDeviceGetMarginTemperature");
  if (code) return code;
  if (out[0] != (8 | 1 << 24)) return ARGUMENT_VERSION_MISMATCH;
  out[1] = (int)valueOf(d, "nvmlDeviceGetMarginTemperature", 37);
  return SUCCESS;
}

typedef struct { u32 version; unsigned char cluster[16]; u32 status, clique; unsigned char state; u32 health; } Fabric;

int nvmlDeviceGetGpuFabricInfoV(Device *d, Fabric *out) {
  int code = check(d, "nvmlDeviceGetGpuFabricInfoV");
  if (code) return code;
  if (out->version != (sizeof *out | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
  out->state = 3;
  out->health = 0x55;
  return SUCCESS;
}

int nvmlDeviceGetRowRemapperHistogram(Device *d, u32 *out) {
  int code = check(d, "nvmlDeviceGetRowRemapperHistogram");
  if (code == SUCCESS) memcpy(out, (u32[]){2559, 1, 0, 0, 0}, 20);
  return code;
}

typedef struct { u32 version; u64 counts[11]; u32 exceeded; } Sram;

int nvmlDeviceGetSramEccErrorStatus(Device *d, Sram *out) {
  int code = check(d, "nvmlDeviceGetSramEccErrorStatus");
  if (code) return code;
  if (out->version != (sizeof *out | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
  out->exceeded = (u32)valueOf(d, "nvmlDeviceGetSramEccErrorStatus", 0);
  return SUCCESS;
}

int nvmlDeviceGetMemoryErrorCounter(Device *d, int type, int scope, int location, u64 *out) {
  int code = check(d, "nvmlDeviceGetMemoryErrorCounter");
  if (code == SUCCESS) *out = (u64)(type * 2 + scope + (location == 7 ? 100 : 0));
  return code;
}

typedef struct {
  u32 field, scope;
  long long timestamp, latency;
  u32 type, code;
  union { double d; u32 u; u64 ull; long long ll; int i; unsigned short us; } value;
} FieldValue;

enum { DOUBLE = 0, UINT = 1, ULL = 3, LL = 4, INT = 5, USHORT = 6 };

/* Field, type, value; COUNTED: what the control file calls counter, times the value. */
#define COUNTED 0x100
static const struct { u32 id, type; double value; } FIELDS[] = {
    {1, UINT, 1}, {2, UINT, 1}, {3, ULL | COUNTED, 1}, {4, ULL, 0}, {5, ULL, 9000}, {6, ULL, 2},
    {11, ULL, 5}, {12, ULL, 0}, {22, ULL, 8000}, {23, ULL, 2}, {29, ULL, 1}, {30, ULL, 2}, {31, UINT, 0},
    {74, ULL | COUNTED, 1e6}, {75, ULL | COUNTED, 2e6}, {76, ULL | COUNTED, 3e6}, {77, ULL | COUNTED, 4e6},
    {78, ULL | COUNTED, 5e6}, {79, ULL | COUNTED, 6e6}, {80, ULL | COUNTED, 7e6}, {81, ULL | COUNTED, 8e6},
    {82, UINT, 62}, {83, ULL | COUNTED, 1e6}, {94, UINT, 7}, {95, UINT, 0}, {142, UINT, 1}, {143, UINT, 2},
    {144, UINT, 0}, {145, UINT, 0}, {169, UINT, 3}, {173, ULL, 4}, {174, UINT, 5}, {177, UINT, 6},
    {186, UINT, 310250}, {193, INT, -8}, {194, INT, -2}, {195, INT, 0}, {196, INT, 0},
    {197, ULL | COUNTED, 1e9}, {198, ULL | COUNTED, 2e9}, {230, UINT, 0}, {251, ULL, 0}, {252, ULL, 1.5e9}, {253, ULL, 0},
};
static const struct { u32 id, type; double value; } LINK_FIELDS[] = {
    {165, UINT, 1}, {202, ULL | COUNTED, 1e6}, {204, ULL | COUNTED, 2e6}, {206, ULL, 0}, {207, ULL, 0}, {208, ULL, 1},
    {211, ULL, 0}, {214, ULL, 0}, {215, ULL, 2}, {220, ULL, 15 << 8 | 255}, {221, ULL, 3}, {222, ULL, 2 << 8 | 13},
};

static void give(FieldValue *one, u32 type, double value) {
  if (type & COUNTED) value *= control.counter;
  one->code = SUCCESS;
  one->type = type & 0xff;
  one->value.ull = 0;
  if (one->type == DOUBLE) one->value.d = value;
  else if (one->type == INT) one->value.i = (int)value;
  else if (one->type == UINT) one->value.u = (u32)value;
  else if (one->type == USHORT) one->value.us = (unsigned short)value;
  else one->value.ull = (u64)value;
}

static void fieldOf(Device *d, FieldValue *one) {
  char name[16];
  snprintf(name, sizeof name, "%u", one->field);
  one->code = check(d, name);
  if (one->code) return;
  one->code = NOT_SUPPORTED;
  if (one->field == 91) {
    give(one, UINT, control.links);
    return;
  }
  for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++)
    if (FIELDS[i].id == one->field && one->scope == 0)
      give(one, FIELDS[i].type, valueOf(d, name, FIELDS[i].value));
  for (size_t i = 0; i < sizeof LINK_FIELDS / sizeof *LINK_FIELDS; i++)
    if (LINK_FIELDS[i].id == one->field && (int)one->scope < control.links)
      give(one, LINK_FIELDS[i].type, valueOf(d, name, LINK_FIELDS[i].value));
  if ((one->field == 138 || one->field == 139) && one->scope == 0xffffffffu && control.links > 0)
    give(one, ULL | COUNTED, one->field);
}

int nvmlDeviceGetFieldValues(Device *d, int count, FieldValue *values) {
  int code = check(d, "nvmlDeviceGetFieldValues");
  if (code) return code;
  for (int i = 0; i < count; i++) fieldOf(d, &values[i]);
  return SUCCESS;
}
