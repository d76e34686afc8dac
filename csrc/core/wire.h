/* Wire time: how long a number of bytes takes on a link, in one integer formula.
 *
 * A rate is kept as picoseconds a byte in Q16, rounded to nearest: exact for every rate that
 * divides 8e6 * 2^16 Mb/s (10, 25, 40, 50, 100, 200, 400, 800 Gb/s …), within 4 ppm up to 4 Tb/s,
 * within 0.1 % up to 1 Pb/s. */
#ifndef FAB_CORE_WIRE_H
#define FAB_CORE_WIRE_H

#include "core/base.h"

#define FAB_WIRE_SHIFT 16
#define FAB_WIRE_ONE ((int64_t)1 << FAB_WIRE_SHIFT)
#define FAB_RATE_MIN_MBPS 250
#define FAB_RATE_MAX_MBPS 1000000000

/* Picoseconds a byte in Q16 of a rate in Mb/s; 32 bits hold every rate from FAB_RATE_MIN_MBPS up. */
FAB_INLINE uint32_t fab_wire_ps_per_byte_q16(int64_t rate_mbps)
{
    const int64_t byte_at_one_mbps = 8000000 * FAB_WIRE_ONE;
    return (uint32_t)((byte_at_one_mbps + rate_mbps / 2) / rate_mbps);
}

/* Time of `bytes` on the wire, rounded up to a whole picosecond. */
FAB_INLINE int64_t fab_wire_ps(int64_t bytes, uint32_t ps_per_byte_q16)
{
    return (int64_t)(((uint64_t)bytes * ps_per_byte_q16 + (FAB_WIRE_ONE - 1)) >> FAB_WIRE_SHIFT);
}

/* Bytes that a wire carries in `time_ps`, rounded down. */
FAB_INLINE int64_t fab_wire_bytes(int64_t time_ps, uint32_t ps_per_byte_q16)
{
    if (FAB_LIKELY(time_ps < (INT64_C(1) << 47))) /* a division of 64 bits is an instruction, one of 128 a call */
        return (int64_t)(((uint64_t)time_ps << FAB_WIRE_SHIFT) / ps_per_byte_q16);
    return (int64_t)(((unsigned __int128)time_ps << FAB_WIRE_SHIFT) / ps_per_byte_q16);
}

#endif
