"""``python tests/oracle SEED …``: show random worlds, and the first difference between core and oracle.

``c7`` is the world of seed 7 with several data classes, ``v7`` the one with credits and virtual lanes,
``m7`` the one with a controller other than DCQCN, ``n7`` the one with two networks, ``s7`` the one with SRD,
``f7`` the one with a file system.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.generate import (
    circuit_world,
    class_world,
    controller_world,
    credit_world,
    random_world,
    srd_world,
)
from oracle.servers import server_world
from oracle.storage import StoreWorld
from oracle.storage import compare as compare_storage
from oracle.store_generate import store_world
from oracle.world import compare

KINDS = {
    "c": class_world,
    "f": store_world,
    "o": circuit_world,
    "m": controller_world,
    "n": server_world,
    "s": srd_world,
    "v": credit_world,
}

for text in sys.argv[1:]:
    world = KINDS.get(text[0], random_world)(int(text.lstrip("cfmnosv")))
    print(
        f"world {text}: {world.n_hosts} hosts, {world.n_switches} switches, ranks on hosts {world.rank_host}"
    )
    for i, cable in enumerate(world.cables):
        wire = f"{cable.rate_mbps} Mb/s, {cable.delay_ps} ps, network {cable.network}"
        print(f"  cable {i}: {cable.a} - {cable.b}, {wire}")
    for settings in (world.settings, world.up_settings):
        for room, (name, values) in settings.items():
            print(f"  {room}: {name} {values}")
    for i, (name, values) in enumerate(world.variants):
        print(f"  variant {i}: {name} {values}")
    if isinstance(world, StoreWorld):
        print(f"  {world.store} {world.store_values}")
        print(f"  {world.target} {world.target_values}, slow {world.slow}")
        print(
            f"  servers {world.server_hosts}, metadata {world.meta_hosts}, targets at {world.target_server}"
        )
        for i, f in enumerate(world.files):
            print(f"  file {i}: directory {f.directory}, layout {f.layout}, {f.size_before} bytes before")
    for row in world.rows:
        print("  ", {name: value for name, value in row.items() if value not in (0, [], -1)})
    if isinstance(world, StoreWorld):
        print("\n".join(compare_storage(world, 10_000_000)[0]) or "no difference")
        continue
    difference, oracle = compare(world, 10_000_000)
    print("\n".join(difference) or f"no difference: {dict(oracle.count)}")
