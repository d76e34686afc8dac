"""How often should a checkpoint be saved? Llama 3 405B's interruptions on 16,384 GPUs, over two weeks.

In line, with all GPUs waiting for a minute, or behind the training, which waits for ten seconds: mean of
ten seeds, the same failures for all.
"""

from fabricsim.goodput import GoodputConfig, sweep, young_interval
from fabricsim.units import s

MINUTES = (2, 5, 10, 15, 20, 30, 60, 120)
MODES = {
    "in line": ["checkpoint.mode=sync", "checkpoint.save=60s"],
    "behind": ["checkpoint.mode=async", "checkpoint.snapshot=10s", "checkpoint.write=60s"],
}

print("a save every  " + "".join(f"{minutes:4} min" for minutes in MINUTES))
advice = []
for mode, settings in MODES.items():
    config = GoodputConfig.load("llama3-405b", ["job.wall=14d", *settings])
    studies = sweep(config, [minutes * 60 * s for minutes in MINUTES], seeds=10)
    useful = [study.goodput.mean for study in studies]
    print(f"{mode:14}" + "".join(f"{share:8.1%}" for share in useful))
    best = max(range(len(MINUTES)), key=useful.__getitem__)
    young = young_interval(config.checkpoint.stall_ps / s, config.mtti_hours() * 3600) / 60
    advice.append(f"{mode} every {MINUTES[best]} minutes ({useful[best]:.1%} useful; Young says {young:.0f})")
print(f"Save {advice[0]} or {advice[1]}: twice or half as often costs little, hourly seven points or more.")
